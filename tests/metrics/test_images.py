"""Signal-to-noise ratio and structural similarity of single images."""

import math

import numpy as np
import pytest

from jaxscore import metrics

RNG = np.random.default_rng(0)
A = RNG.random((2, 20, 24, 1))
SKIMAGE = [0.8233441431975514, 0.8028641281233081]
B = np.clip(A + 0.2 * RNG.standard_normal(A.shape), 0, 1)


def test_psnr_is_that_of_a_known_error():
    truths = np.stack([np.zeros((4, 4, 1)), np.full((4, 4, 1), 10.0)])
    found = metrics.psnr(truths + np.array([0.1, 1.0]).reshape(2, 1, 1, 1), truths)
    np.testing.assert_allclose(found, [20.0, 0.0], atol=1e-9)
    assert metrics.psnr(truths, truths)[0] == math.inf


def test_ssim_is_scikit_images():
    """structural_similarity of version 0.26: Gaussian weights, population covariance, mean of the map."""
    np.testing.assert_allclose(metrics.ssim(A, B), SKIMAGE, atol=1e-6)


def test_an_image_alone_has_the_same_value_as_among_others():
    for metric in (metrics.psnr, metrics.ssim):
        np.testing.assert_array_equal(metric(A, B)[:1], metric(A[:1], B[:1]))
        assert metric(A, B + 0.01)[0] != metric(A, B)[0]


def test_equal_images_are_fully_similar():
    np.testing.assert_allclose(metrics.ssim(A, A), 1.0)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="they must be equal"):
        metrics.psnr(A, B[:1])


def test_grey_values_and_other_events_are_refused():
    with pytest.raises(ValueError, match="divide grey values by 255"):
        metrics.psnr(np.zeros((1, 2, 2, 1), np.uint8), np.zeros((1, 2, 2, 1)))
    with pytest.raises(ValueError, match="structural similarity needs"):
        metrics.ssim(A[..., 0], B[..., 0])

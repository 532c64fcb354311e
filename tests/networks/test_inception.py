"""The Inception network of the FID, and how images are resized for it."""

import jax
import numpy as np
import pytest

from jaxscore import importers
from jaxscore.networks.inception import Inception, resized
from tests.networks.published import read


def test_features_are_those_of_pytorch_fid():
    arrays, _, state = read("inception_relu")
    params = importers.inception.params(state)
    found = jax.jit(Inception().apply)(params, 255 * arrays["x"])
    np.testing.assert_allclose(found, arrays["features"], atol=1e-5)


def test_images_are_resized_as_pytorch_resizes_them():
    arrays, _, _ = read("inception_relu")
    found = resized(255 * arrays["x"]) * (2 / 255) - 1
    pieces = {"corner": slice(3), "middle": slice(148, 151), "last_corner": slice(-3, None)}
    for name, at in pieces.items():
        np.testing.assert_allclose(found[:, at, at], arrays[f"resized_{name}"], atol=2e-6)
    np.testing.assert_allclose(found.mean(axis=(1, 2)), arrays["resized_mean"], atol=2e-6)


@pytest.mark.parametrize("shape", [(1, 1), (5, 8), (299, 299), (400, 301)])
def test_resizing_is_the_mean_of_the_four_nearest_pixels(shape):
    x = np.random.default_rng(0).integers(0, 256, (1, *shape, 1), np.uint8)
    expected = np.zeros((1, 299, 299, 1))
    places = [np.clip((np.arange(299) + 0.5) * n / 299 - 0.5, 0, n - 1) for n in shape]
    low = [np.floor(place).astype(int) for place in places]
    for down in (0, 1):
        for right in (0, 1):
            rows, columns = (
                np.minimum(first + step, n - 1)
                for first, step, n in zip(low, (down, right), shape, strict=True)
            )
            weights = [
                place - first if step else 1 - place + first
                for place, first, step in zip(places, low, (down, right), strict=True)
            ]
            expected += (weights[0][:, None] * weights[1])[..., None] * x[:, rows][:, :, columns]
    np.testing.assert_allclose(resized(x), expected, atol=2e-4)

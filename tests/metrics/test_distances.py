import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from jaxscore import metrics

RNG = np.random.default_rng(0)
A = RNG.standard_normal((300, 5)) @ RNG.standard_normal((5, 5)) + 1.0
B = RNG.standard_normal((200, 5)) @ RNG.standard_normal((5, 5)) - 0.5


def textbook_frechet(a, b):
    c_a, c_b = np.cov(a.T), np.cov(b.T)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy says when a matrix is singular
        root = scipy.linalg.sqrtm(c_a @ c_b)
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(c_a + c_b - 2 * np.real(root))


def test_frechet_is_the_formula_with_scipys_square_root():
    np.testing.assert_allclose(metrics.frechet(A, B), textbook_frechet(A, B), rtol=1e-9)
    np.testing.assert_allclose(metrics.frechet(B, A), metrics.frechet(A, B), rtol=1e-9)


def test_metrics_are_those_of_published_code():
    """Those of prdc, SciPy's matrix root, and the formula of KID, for the same features."""
    with np.load(Path(__file__).parent / "parity" / "metrics.npz") as file:
        expected = {name: file[name] for name in file.files if name != "meta.json"}
    real, fake = expected["real"], expected["fake"]
    np.testing.assert_allclose(metrics.frechet(fake, real), expected["frechet"], rtol=1e-9)
    np.testing.assert_allclose(metrics.kid(fake, real), expected["kid"], rtol=1e-9)
    for k in (3, 5):
        found = (
            *metrics.precision_recall(fake, real, neighbours=k),
            *metrics.density_coverage(fake, real, neighbours=k),
        )
        names = "precision", "recall", "density", "coverage"
        np.testing.assert_allclose(found, [expected[f"{name}_k{k}"] for name in names], rtol=1e-12)


def test_frechet_of_singular_covariances():
    # In the plane of the first two of five coordinates, where SciPy's root is of full-rank matrices.
    a, b = A[:, :2], B[:, :2]
    flat = lambda x: np.pad(x, ((0, 0), (0, 3)))
    np.testing.assert_allclose(metrics.frechet(flat(a), flat(b)), textbook_frechet(a, b), rtol=1e-9)
    # Fewer examples than features: rank 3, and finite.
    assert np.isfinite(metrics.frechet(A[:4], B[:4]))


def test_frechet_of_equal_sets_is_zero():
    assert 0 <= metrics.frechet(A, A) < 1e-9
    assert 0 <= metrics.frechet(A[:3], A[:3]) < 1e-9
    np.testing.assert_allclose(metrics.frechet(A, A + 2.0), 5 * 4.0, rtol=1e-9)


def test_frechet_needs_two_examples():
    with pytest.raises(ValueError, match="at least 2"):
        metrics.frechet(A[:1], B)


def test_sliced_wasserstein_in_1d_is_between_sorted_points():
    exact = np.sqrt(np.mean((np.sort(A[:200, 0]) - np.sort(B[:, 0])) ** 2))
    np.testing.assert_allclose(
        metrics.sliced_wasserstein(A[:200, :1], B[:, :1], directions=3), exact, rtol=1e-9
    )


def test_sliced_wasserstein_of_a_shift_is_its_length_over_root_d():
    # Every projection moves by <u, shift>, and E <u, shift>^2 = |shift|^2 / d.
    shift, d, directions = np.array([3.0, 0.0, 4.0, 0.0, 0.0]), 5, 4000
    ours = metrics.sliced_wasserstein(A, A + shift, directions=directions)
    # <u, e>^2 is Beta(1/2, (d-1)/2): its relative standard error, over `directions`; 4 of them,
    # halved by the root.
    relative = np.sqrt(2 * (d - 1) / (d + 2) / directions)
    np.testing.assert_allclose(ours, 5 / np.sqrt(d), rtol=2 * relative)


def test_sliced_wasserstein_takes_sets_of_different_sizes():
    # Each of b's points twice is the same distribution.
    a, b = A[:200], B[:100]
    twice = np.repeat(b, 2, axis=0)
    once, doubled = (metrics.sliced_wasserstein(a, points) for points in (b, twice))
    assert once == pytest.approx(doubled, rel=1e-9)
    assert metrics.sliced_wasserstein(b, twice) < 1e-12
    with pytest.raises(ValueError, match="directions"):
        metrics.sliced_wasserstein(a, b, directions=0)


def test_class_kl_is_scipys_relative_entropy():
    labels, reference = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 1, 1, 2, 3, 3, 0, 2])
    expected = scipy.stats.entropy([3 / 6, 1 / 6, 2 / 6, 0], [2 / 8, 2 / 8, 2 / 8, 2 / 8])
    np.testing.assert_allclose(metrics.class_kl(labels, reference), expected, rtol=1e-12)
    # Infinite for a class that the reference has not.
    assert (metrics.class_kl(labels, labels), metrics.class_kl(reference, labels)) == (0, np.inf)

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from jaxscore import metrics
from jaxscore.metrics import kernels
from tests.draws import assert_mean

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((150, 5)), 0.8 * RNG.standard_normal((90, 5)) + 0.3


def unbiased(kernel, a, b):
    """Equation 3 of Gretton et al. 2012 with the whole matrices, of scikit-learn's kernels."""
    off = lambda x: kernel(x, x)[~np.eye(len(x), dtype=bool)].mean()
    return off(a) + off(b) - 2 * kernel(a, b).mean()


def test_kid_is_the_formula_with_another_kernel():
    cubic = lambda x, y: polynomial_kernel(x, y, degree=3, gamma=1 / 5, coef0=1)
    np.testing.assert_allclose(metrics.kid(A, B), unbiased(cubic, A, B), rtol=1e-10)
    np.testing.assert_allclose(metrics.kid(B, A), metrics.kid(A, B), rtol=1e-10)


@pytest.mark.parametrize("widths", [(1.0,), (0.5, 1.0, 4.0)])
def test_mmd_is_the_formula_with_other_kernels(widths):
    summed = lambda x, y: sum(rbf_kernel(x, y, gamma=1 / (2 * width**2)) for width in widths)
    np.testing.assert_allclose(metrics.mmd(A, B, widths=widths), unbiased(summed, A, B), rtol=1e-9)
    # Where the points lie does not matter, as long as float64 can tell them apart.
    moved = metrics.mmd(A + 1e5, B + 1e5, widths=widths)
    np.testing.assert_allclose(moved, metrics.mmd(A, B, widths=widths), rtol=1e-6)


def test_without_widths_the_median_distance_is_the_width():
    median = np.median(pdist(np.concatenate([A, B])))
    np.testing.assert_allclose(metrics.median_distance(A, B), median, rtol=1e-12)
    assert metrics.mmd(A, B) == metrics.mmd(A, B, widths=[metrics.median_distance(A, B)])
    # Of every third of A and every second of B.
    few = np.median(pdist(np.concatenate([A[::3], B[::2]])))
    np.testing.assert_allclose(metrics.median_distance(A, B, most=50), few, rtol=1e-12)


def test_kid_and_mmd_of_one_distribution_are_zero_on_average():
    draws = [RNG.standard_normal((2, 40, 3)) for _ in range(400)]
    for discrepancy in (metrics.kid, lambda a, b: metrics.mmd(a, b, widths=[1.0])):
        found = [discrepancy(a, b) for a, b in draws]
        assert_mean(found, 0)
        # It is below 0 about as often as above, as no distance is.
        assert 0.4 < np.mean(np.array(found) < 0) < 0.8


def test_blocks_do_not_show(monkeypatch):
    whole = metrics.kid(A, B), metrics.mmd(A, B)
    monkeypatch.setattr(kernels, "BLOCK", 32)
    np.testing.assert_allclose([metrics.kid(A, B), metrics.mmd(A, B)], whole, rtol=1e-10)


@pytest.mark.parametrize(("a", "b"), [(A[:1], B), (A, B[:1])])
def test_one_example_is_refused(a, b):
    for discrepancy in (metrics.kid, lambda a, b: metrics.mmd(a, b, widths=[1.0])):
        with pytest.raises(ValueError, match="at least 2"):
            discrepancy(a, b)


@pytest.mark.parametrize(("x", "widths"), [(A, ()), (A, (1.0, 0.0)), (A, (-1.0,)), (np.ones((4, 2)), None)])
def test_widths_that_are_not_positive_are_refused(x, widths):
    """So are points that are all at one place, as their median distance is 0."""
    with pytest.raises(ValueError, match="widths"):
        metrics.mmd(x, x, widths=widths)

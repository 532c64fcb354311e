import inspect
import sys

import numpy as np
import pytest
import scipy.stats

from jaxscore import metrics
from jaxscore.metrics import two_sample

RNG = np.random.default_rng(0)


def test_sets_of_one_distribution_are_told_apart_by_chance():
    """Mean 0.5 over 25 pairs, with a standard deviation from 1 / sqrt(8 n) to 1 / sqrt(4 n), n = 50."""
    rng = np.random.default_rng(0)
    found = [metrics.c2st(*rng.standard_normal((2, 50, 1)), seed=seed) for seed in range(25)]
    z = np.array([each.z for each in found])
    assert found[0].error == pytest.approx(1 / np.sqrt(200))
    assert found[0].z == pytest.approx((found[0].accuracy - 0.5) / found[0].error)
    # 4 standard errors of a mean, 1 / sqrt(25) each, and 3 of a standard deviation, 14 % each.
    assert abs(z.mean()) < 4 / np.sqrt(25)
    assert 0.58 / np.sqrt(2) < z.std() < 1.42


@pytest.mark.parametrize("distance", [1.0, 2.0])
def test_accuracy_of_shifted_gaussians_is_the_best(distance):
    """The best classifier of N(0, I) and N(shift, I) is right with a probability of Phi(|shift| / 2)."""
    x, y = RNG.standard_normal((2, 500, 2))
    best = scipy.stats.norm.cdf(distance / 2)
    found = metrics.c2st(x, y + distance * np.array([0.6, 0.8]))
    # 3 standard errors; a network with 20 units loses a hundredth more.
    assert found.accuracy == pytest.approx(best, abs=3 * np.sqrt(best * (1 - best) / 1000) + 0.01)
    assert found.z > 5


def test_a_classifier_sees_what_moments_do_not():
    """Correlations of opposite sign have the same marginals."""
    x, y = RNG.standard_normal((2, 300, 2)) @ np.array([[1, 0], [0.9, 0.19**0.5]]).T
    # The variances along the diagonals are 1.9 and 0.1; the best classifier asks which coordinate is larger.
    best = 2 / np.pi * np.arctan(19**0.5)
    # 3 standard errors of 600 rows; a network with 20 units loses a hundredth more.
    error = 3 * np.sqrt(best * (1 - best) / 600) + 0.01
    assert metrics.c2st(x, y * [1, -1]).accuracy == pytest.approx(best, abs=error)


def test_the_seed_decides():
    x, y = RNG.standard_normal((2, 30, 1))
    assert metrics.c2st(x, y, seed=1) == metrics.c2st(x, y, seed=1)
    assert len({metrics.c2st(x, y, seed=seed).accuracy for seed in range(4)}) > 1


# Units ----------------------------------------------------------------------------------------------


def test_ordinary_columns_are_standardised_by_the_first_set():
    x, y = RNG.standard_normal((2, 200, 3)) * [1e6, 1, 1e-6] + [5, -3, 1e-3]
    expected = (np.concatenate([x, y]) - x.mean(axis=0)) / x.std(axis=0)
    np.testing.assert_allclose(two_sample._standardised(x, y), expected, atol=1e-9)


@pytest.mark.parametrize("heavy", [0, 1])
def test_outliers_do_not_make_ordinary_values_coincide(heavy):
    """Counts 0 to 10 with 1 % of a million, in one of the sets or in both; the other column is Gaussian."""
    counts = RNG.integers(11, size=(2, 1000)).astype(np.float32)
    counts[: 1 + heavy, ::100] = 1e6
    x, y = np.stack([counts, RNG.standard_normal((2, 1000))], axis=2)
    rows = two_sample._standardised(x.astype(float), y.astype(float))
    values, numbers = np.unique(rows[:, 0], return_inverse=True)
    assert len(values) == 12
    np.testing.assert_array_equal(numbers, np.unique(counts, return_inverse=True)[1].ravel())
    # Counts differ by a tenth of a standard deviation or more, and a million is no more than 10 of those.
    assert np.diff(values).min() > 0.1
    assert np.abs(values).max() < 12


def test_outliers_leave_the_accuracy_right():
    """Counts 0 to 10 against counts 5 to 15: the best accuracy is 1/2 + 5/22."""
    x, y = RNG.integers(11, size=(2, 400, 1)).astype(np.float32)
    y += 5
    x[::100] = y[::100] = 1e6
    # 1 % of the rows is told apart by chance; 4 standard errors of 800 rows, and a hundredth for the network.
    best = 0.5 + 0.99 * 5 / 22
    assert metrics.c2st(x, y).accuracy == pytest.approx(best, abs=4 * np.sqrt(0.25 / 800) + 0.01)


@pytest.mark.parametrize("value", [0.1, -0.087, 20.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_column_is_left_out(value, dtype):
    """Its computed standard deviation may be 1e-17 and not 0."""
    column = np.full((30, 1), value, dtype).astype(float)
    assert not two_sample._standardised(column, column).any()
    # Where only the first set is constant, the second decides the unit.
    other = column + 1e-6 * np.arange(30)[:, None]
    assert np.ptp(two_sample._standardised(column, other)) == pytest.approx(29 / 15, rel=0.1)


def test_a_column_that_is_mostly_constant_keeps_its_values():
    x, y = (RNG.random((2, 500, 1)) < 0.04) * RNG.integers(1, 11, size=(2, 500, 1)) * 1.0
    expected = (np.concatenate([x, y]) - x.mean(axis=0)) / x.std(axis=0)
    np.testing.assert_allclose(two_sample._standardised(x, y), expected, atol=1e-9)


# Refusals -------------------------------------------------------------------------------------------


def test_sets_that_do_not_fit_are_refused():
    c2st, points = inspect.unwrap(metrics.c2st), RNG.standard_normal((20, 2))
    for x, y in ((points, points[:10]), (points, points[:, :1]), (points[:, 0], points[:, 1])):
        with pytest.raises(ValueError, match=r"both must be \[n, d\]"):
            c2st(x, y)
    with pytest.raises(ValueError, match="9 rows and 5 folds"):
        c2st(points[:9], points[:9])
    with pytest.raises(ValueError, match="20 rows and 1 folds"):
        c2st(points, points, folds=1)
    holes = points.copy()
    holes[[1, 5], [0, 1]] = np.nan, np.inf
    with pytest.raises(ValueError, match="2 of 40 rows have values that are not finite"):
        c2st(points, holes)
    with pytest.raises(ValueError, match="x and y are the same rows"):
        c2st(points, points.copy())


def test_a_missing_scikit_learn_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.neural_network", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxscore\[metrics\]'"):
        metrics.c2st(*RNG.standard_normal((2, 20, 1)))

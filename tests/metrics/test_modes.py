import jax
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxscore import metrics, mixtures

GRID = mixtures.grid25()
MEANS, STD = np.asarray(GRID.means), 0.05


# Counting -----------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-1, 5), min_size=1, max_size=40))
def test_modes_are_counted(labels):
    found = metrics.modes_found(np.array(labels), 6)
    counts = [labels.count(mode) for mode in range(6)]
    assert found.found == len({*labels} - {-1})
    assert found.assigned == pytest.approx(sum(counts) / len(labels))
    if sum(counts):
        assert found.kl == pytest.approx(scipy.stats.entropy(counts, np.ones(6)), abs=1e-12)
    else:
        assert found.kl == np.inf


def test_the_divergence_of_even_labels_is_0_of_one_log_n():
    even = metrics.modes_found(np.arange(1000).repeat(7), 1000)
    assert even == (1000, pytest.approx(0, abs=1e-12), 1.0)
    assert even.kl >= 0
    assert metrics.modes_found(np.full(9, 3), 1000).kl == pytest.approx(np.log(1000))


@pytest.mark.parametrize(
    ("labels", "modes", "message"),
    [
        ([0, 3], 3, "labels"),
        ([-2, 0], 3, "labels"),
        ([], 3, "labels"),
        ([0], 0, "modes"),
    ],
)
def test_labels_of_other_modes_are_refused(labels, modes, message):
    with pytest.raises(ValueError, match=message):
        metrics.modes_found(np.array(labels, int), modes)


# Samples and means --------------------------------------------------------------------------------


def test_the_mixture_s_own_samples_find_all_modes():
    samples = np.asarray(mixtures.draw(jax.random.key(0), GRID, 10_000))
    labels = metrics.assign(samples, MEANS, STD)
    found = metrics.modes_found(labels, 25)
    assert found.found == 25
    # Beyond 3 std in the plane: exp(-9/2); 4 standard errors.
    beyond = np.exp(-4.5)
    assert 1 - found.assigned == pytest.approx(beyond, abs=4 * np.sqrt(beyond / 10_000))
    assert found.kl < 0.005  # 24 / 20,000 on average
    distances = np.linalg.norm(samples[:, None] - MEANS[None], axis=2)
    expected = np.where(distances.min(axis=1) <= 3 * STD, distances.argmin(axis=1), -1)
    np.testing.assert_array_equal(labels, expected)


def test_reach_and_std_are_of_the_nearest_mode():
    means, std = np.array([[0.0], [10.0]]), np.array([1.0, 3.0])
    samples = np.array([[2.9], [3.1], [4.9], [5.1], [1.0]])
    # 4.9 is within 3 std of the second, and nearer to the first.
    np.testing.assert_array_equal(metrics.assign(samples, means, std), [0, -1, -1, 1, 0])
    np.testing.assert_array_equal(metrics.assign(samples, means, std, reach=np.inf), [0, 0, 0, 1, 0])
    np.testing.assert_array_equal(metrics.assign(samples, means, 1.0, reach=2.0), [-1, -1, -1, -1, 0])


def test_samples_that_are_not_finite_belong_to_no_mode():
    samples = np.array([[np.nan, 0.0], [np.inf, 0.0], [0.0, 0.0]])
    for reach in (3.0, np.inf):
        labels = metrics.assign(samples, MEANS, STD, reach=reach)
        np.testing.assert_array_equal(labels, [-1, -1, 12])


@pytest.mark.parametrize(("std", "reach"), [(0.0, 3.0), (1.0, 0.0), (np.nan, 3.0)])
def test_a_std_or_a_reach_that_is_not_positive_is_refused(std, reach):
    with pytest.raises(ValueError, match="positive"):
        metrics.assign(MEANS, MEANS, std, reach=reach)


# Stacked digits -----------------------------------------------------------------------------------


def test_stacked_labels_are_read_as_digits():
    labels = np.argwhere(np.ones((10, 10, 10)))
    np.testing.assert_array_equal(metrics.stacked(labels), np.arange(1000))
    np.testing.assert_array_equal(metrics.stacked(np.array([[1, 0], [2, 2]]), classes=3), [3, 8])
    assert metrics.stacked(np.array([[9, 9, 9]], np.uint8)) == 999


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_outside_of_the_classes_is_refused(label):
    with pytest.raises(ValueError, match="0 to 9"):
        metrics.stacked(np.array([[0, 0, label]]))

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial

from jaxscore import metrics
from jaxscore.metrics import coverage

RNG = np.random.default_rng(0)
DATA = RNG.standard_normal((150, 3))
SAMPLES = 0.7 * RNG.standard_normal((100, 3)) + 0.5


def brute_force_share(queries, points, k):
    """The share of queries inside any point's ball to its k-th other point, pair by pair."""
    reach = []
    for i, point in enumerate(points):
        others = np.delete(points, i, axis=0)
        reach.append(np.sort(np.linalg.norm(others - point, axis=1))[k - 1])
    inside = [any(np.linalg.norm(q - p) <= r for p, r in zip(points, reach, strict=True)) for q in queries]
    return np.mean(inside)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_are_those_of_the_definition(k):
    precision, recall = metrics.precision_recall(SAMPLES, DATA, neighbours=k)
    assert precision == pytest.approx(brute_force_share(SAMPLES, DATA, k))
    assert recall == pytest.approx(brute_force_share(DATA, SAMPLES, k))
    assert 0.2 < recall < precision <= 1  # the samples are narrower than the data


def test_a_lost_mode_costs_recall_and_an_invented_one_precision():
    two = np.concatenate([DATA, DATA + 100])
    assert metrics.precision_recall(DATA, two) == (1.0, 0.5)
    assert metrics.precision_recall(two, DATA) == (0.5, 1.0)


@pytest.mark.parametrize("rank", [1, 4])
def test_nearest_is_what_a_tree_finds(rank):
    distances, indices = metrics.nearest(SAMPLES, DATA, rank=rank)
    expected, where = scipy.spatial.cKDTree(DATA).query(SAMPLES, k=[rank])
    np.testing.assert_allclose(distances, expected[:, 0], rtol=1e-12)
    np.testing.assert_array_equal(indices, where[:, 0])


def test_no_point_is_its_own_neighbour():
    distances, indices = metrics.nearest(DATA, DATA, rank=2, exclude_self=True)
    expected, where = scipy.spatial.cKDTree(DATA).query(DATA, k=[3])
    np.testing.assert_allclose(distances, expected[:, 0], rtol=1e-12)
    np.testing.assert_array_equal(indices, where[:, 0])


def test_blocks_do_not_show(monkeypatch):
    whole = metrics.nearest(DATA, DATA, exclude_self=True), metrics.precision_recall(SAMPLES, DATA)
    monkeypatch.setattr(coverage, "BLOCK", 7)
    parts = metrics.nearest(DATA, DATA, exclude_self=True), metrics.precision_recall(SAMPLES, DATA)
    np.testing.assert_array_equal(whole[0], parts[0])
    assert whole[1] == parts[1]


def test_small_distances_far_from_the_origin_keep_their_digits():
    # |a|^2 - 2 a b + |b|^2 is 10^8 - 10^8 here, and would lose a distance of 10^-6 altogether.
    points = np.array([[1e4, 0.0], [0.0, 1e4]])
    distances, _ = metrics.nearest(points + np.array([[1e-6, 0.0]]), points)
    np.testing.assert_allclose(distances, 1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.nearest(SAMPLES, DATA, rank=0),
        lambda: metrics.nearest(SAMPLES, DATA, rank=151),
        lambda: metrics.nearest(DATA, DATA, rank=150, exclude_self=True),
        lambda: metrics.precision_recall(SAMPLES, DATA[:3], neighbours=3),
    ],
)
def test_a_neighbour_that_is_not_there_is_refused(call):
    with pytest.raises(ValueError, match="neighbour"):
        call()


def test_the_ratio_is_zero_for_copies_and_one_for_fresh_draws():
    data, fresh = RNG.standard_normal((2, 2000, 3))
    assert metrics.nearest_neighbour_ratio(data[:500], data) == 0.0
    # The median of 2000 distances is known to a few per cent.
    assert metrics.nearest_neighbour_ratio(fresh, data) == pytest.approx(1.0, abs=0.1)
    nearly = data[:500] + 1e-3 * fresh[:500]
    assert metrics.nearest_neighbour_ratio(nearly, data) < 0.02


def test_jax_arrays_are_taken_as_they_are():
    samples, data = jnp.asarray(SAMPLES, jnp.float32), jnp.asarray(DATA, jnp.float32)
    precision, _ = metrics.precision_recall(samples, data)
    # In float32 a point on the edge of a ball may fall out of it.
    assert precision == pytest.approx(metrics.precision_recall(SAMPLES, DATA)[0], abs=0.02)
    np.testing.assert_allclose(
        metrics.nearest(samples, data)[0], metrics.nearest(SAMPLES, DATA)[0], rtol=1e-4
    )
    assert metrics.nearest_neighbour_ratio(data, data) == 0.0

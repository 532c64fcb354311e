import chex
import jax
import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from jaxscore import metrics, mixtures, sharding
from jaxscore.metrics import neighbours
from tests.metrics import processes
from tests.metrics.conftest import MESHES

RNG = np.random.default_rng(0)
DATA = RNG.standard_normal((153, 3))
SAMPLES = 0.7 * RNG.standard_normal((101, 3)) + 0.5


def reaches(points, k):
    """Of each point to its k-th other, all pairs compared."""
    return np.sort(cdist(points, points), axis=1)[:, k]


# What is hard to tell apart: lattices have ties, decimals ones that rounding breaks; a spike has all its
# points within what float32 loses of the distance between the two spikes.
LATTICE = np.argwhere(np.ones((5, 5, 5))).astype(float)
SPIKES = np.concatenate([1e-7 * RNG.standard_normal((60, 20)), 1 + 1e-7 * RNG.standard_normal((61, 20))])
HARD = {
    "a lattice": LATTICE,
    "a lattice of tenths": 0.1 * LATTICE,
    "copies": np.repeat(DATA[:9], 13, axis=0),
    "one point": np.ones((40, 4)),
    "far from the origin": 1e6 + 1e-3 * DATA,
    "two spikes": SPIKES,
    "many dimensions": RNG.standard_normal((123, 300)),
    "tiny": 1e-30 * DATA,
    "huge": 1e30 * DATA,
    "an outlier": np.concatenate([DATA, [[1e8, 0, 0]]]),
    "one dimension": DATA[:, :1],
}


# The nearest --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("queries", "own"), [(SAMPLES, 0), (DATA, 1)], ids=["others", "themselves"])
@pytest.mark.parametrize("rank", [1, 4])
def test_nearest_is_what_a_tree_finds(mesh, rank, queries, own):
    """A point is no neighbour of itself: a tree has it at rank 1."""
    found = metrics.nearest(queries, DATA, rank=rank, exclude_self=bool(own), mesh=mesh)
    expected, where = cKDTree(DATA).query(queries, k=[rank + own])
    np.testing.assert_allclose(found[0], expected[:, 0], rtol=1e-12)
    np.testing.assert_array_equal(found[1], where[:, 0])


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("where", ["no mesh", "eight"])
def test_nearest_among_points_that_are_hard_to_tell_apart(name, where):
    points, mesh = HARD[name], MESHES[where]()
    between = points[:-1] + 0.1 * np.diff(points, axis=0)
    queries = np.concatenate([points[::3], between])[:71]
    pairs = cdist(queries, points)
    for rank in (1, 5):
        found, indices = metrics.nearest(queries, points, rank=rank, mesh=mesh)
        np.testing.assert_allclose(found, np.sort(pairs, axis=1)[:, rank - 1], rtol=1e-12)
        np.testing.assert_allclose(pairs[np.arange(len(queries)), indices], found, rtol=1e-12)
        within, others = metrics.nearest(points, points, rank=rank, exclude_self=True, mesh=mesh)
        np.testing.assert_allclose(within, reaches(points, rank), rtol=1e-12)
        assert np.all(others != np.arange(len(points)))


@pytest.mark.parametrize("call", [{"rank": 0}, {"rank": 151}, {"rank": 150, "exclude_self": True}])
def test_a_neighbour_that_is_not_there_is_refused(mesh, call):
    with pytest.raises(ValueError, match="neighbour"):
        metrics.nearest(DATA[:150], DATA[:150], mesh=mesh, **call)
    assert np.all(metrics.nearest(DATA[:3], DATA[:3], rank=2, exclude_self=True, mesh=mesh)[0] > 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    broken = DATA.copy()
    broken[7, 1] = bad
    for call in (
        lambda: metrics.nearest(broken, DATA),
        lambda: metrics.nearest(DATA, broken, mesh=sharding.mesh()),
        lambda: metrics.balls(broken, DATA, neighbours=1),
    ):
        with pytest.raises(ValueError, match="finite"):
            call()


# The balls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 5])
def test_balls_are_counted(mesh, k):
    expected = np.sum(cdist(SAMPLES, DATA) <= reaches(DATA, k)[None], axis=1)
    np.testing.assert_array_equal(metrics.balls(SAMPLES, DATA, neighbours=k, mesh=mesh), expected)
    assert expected.min() < k < expected.max()


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("where", ["no mesh", "eight"])
def test_the_surface_belongs_to_the_ball(name, where):
    # Each point lies on the surface of the balls that reach to it just so.
    points = HARD[name]
    pairs = np.sqrt(np.sum((points[:, None] - points[None]) ** 2, axis=2))  # rounded as a reach is
    expected = np.sum(pairs <= np.sort(pairs, axis=1)[:, 3][None], axis=1)
    np.testing.assert_array_equal(metrics.balls(points, points, neighbours=3, mesh=MESHES[where]()), expected)


# Blocks, devices, processes -----------------------------------------------------------------------


def test_blocks_do_not_show(monkeypatch):
    def results():
        own = metrics.nearest(DATA, DATA, exclude_self=True)
        return *own, metrics.balls(SAMPLES, DATA, neighbours=2), metrics.nearest(LATTICE, LATTICE)[0]

    whole = results()
    monkeypatch.setattr(neighbours, "BLOCK", 7)
    chex.assert_trees_all_equal(whole, results())


def test_the_host_is_asked_only_where_float32_cannot_tell(monkeypatch):
    asked, ours = [], neighbours._nearest

    def watched(queries, points, rows, *others):
        asked.extend(rows)
        return ours(queries, points, rows, *others)

    monkeypatch.setattr(neighbours, "_nearest", watched)
    narrow = mixtures.draw(jax.random.key(0), mixtures.grid25(std=0.01), 1000)
    for points in (np.asarray(narrow), RNG.standard_normal((1000, 64))):
        metrics.nearest(points[::2], points[1::2], mesh=sharding.mesh())
    assert asked == []
    metrics.nearest(SPIKES[::2], SPIKES[1::2], mesh=sharding.mesh())
    assert asked == list(range(len(SPIKES[::2])))


def test_two_processes_share_the_work_and_both_have_the_result():
    assert processes.run() == 2 * [processes.results(sharding.mesh())]

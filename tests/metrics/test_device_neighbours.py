import jax
import numpy as np
import pytest
import scipy.spatial

from jaxscore import sharding
from jaxscore.metrics import device_neighbours
from tests.collectives import collectives

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def mesh():
    return sharding.mesh()


@pytest.mark.parametrize("d", [3, 40])
def test_what_is_left_out_is_no_nearer_than_the_slack_allows(mesh, d):
    # Clusters 10^-3 wide, far apart: with more dimensions than FEW float32 loses much of the distances.
    centres = RNG.standard_normal((5, 1, d))
    points = (centres + 1e-3 * RNG.standard_normal((5, 50, d))).reshape(-1, d) + 100
    queries = points[::2] + 1e-3 * RNG.standard_normal(points[::2].shape)
    found, last = device_neighbours.candidates(queries, points, 6, mesh)
    pairs = scipy.spatial.distance.cdist(queries, points)
    np.put_along_axis(pairs, found, np.inf, axis=1)
    left_out = pairs.min(axis=1)
    slack = device_neighbours.slack(queries, points, left_out)
    assert np.all(last <= left_out**2 + slack)
    # And the slack is not so wide that it says nothing: against the squared size of the whole.
    assert np.all(slack < (1e-8 if d == 3 else 1e-4) * np.var(points) * d)


@pytest.mark.parametrize("d", [3, 40])
def test_counts_are_right_but_for_those_it_says(mesh, d):
    points, queries = RNG.standard_normal((230, d)), RNG.standard_normal((101, d))
    pairs = scipy.spatial.distance.cdist(queries, points)
    reach = np.sort(scipy.spatial.distance.cdist(points, points), axis=1)[:, 3]
    reach[:60] = pairs[:60].min(axis=0)[:60] * (1 + 1e-9 * RNG.choice([-1, 1], 60))  # just in, or just not
    inside, unsure = device_neighbours.counts(queries, points, reach, mesh)
    true = np.sum(pairs <= reach[None], axis=1)
    assert np.all(inside <= true)
    assert np.all(true <= inside + unsure)
    assert 60 <= unsure.sum() < 70


def test_blocks_do_not_show(mesh, monkeypatch):
    points, queries = RNG.standard_normal((153, 5)), RNG.standard_normal((101, 5))
    whole = device_neighbours.candidates(queries, points, 4, mesh)
    monkeypatch.setattr(device_neighbours, "BLOCK", 3 * 153)
    for a, b in zip(whole, device_neighbours.candidates(queries, points, 4, mesh), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)  # blocks of other sizes may add in another order


@pytest.mark.parametrize("kind", [("candidates", 4, True), ("counts", 0, False)])
@pytest.mark.parametrize("d", [16, 48])
def test_a_device_has_its_part_of_the_queries(mesh, kind, d):
    """Devices exchange nothing but results."""
    split, copied = sharding.batched(mesh), sharding.replicated(mesh)
    shape = lambda shape, where, kind=np.float32: jax.ShapeDtypeStruct(shape, kind, sharding=where)
    n, m, block = 8 * 4096, 4096, 32
    arguments = (
        shape((n,), split, np.int32),
        shape((n, d), split),
        shape((m, d), copied),
        shape((m,), copied),
    )
    compiled = device_neighbours._program(mesh, block, *kind).lower(*arguments).compile()
    # A few blocks of 32 x m at a time, in place of 4096 x m, and the points the other way round.
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * n / mesh.size * m / 10
    exchanged = collectives(compiled.as_text())
    assert {name for name, _ in exchanged} == {"all-gather"}
    assert sum(size for _, size in exchanged) == 2 * 4 * n * max(kind[1], 1)

import jax
import numpy as np
import pytest

from jaxscore import metrics, sharding
from jaxscore.metrics import screening
from tests.collectives import collectives

RNG = np.random.default_rng(0)
DATA = RNG.standard_normal((153, 5))
SAMPLES = 0.7 * RNG.standard_normal((101, 5)) + 0.5

MESHES = {
    "one device": lambda: sharding.mesh(devices=jax.devices()[:1]),
    "eight": sharding.mesh,
    "two by four": lambda: sharding.mesh(fsdp=4),
}


@pytest.fixture(params=MESHES)
def mesh(request):
    return MESHES[request.param]()


def same(a, b):
    for ours, theirs in zip(a, b, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, strict=True)


@pytest.mark.parametrize("rank", [1, 3])
def test_nearest_is_the_same_on_devices_to_the_last_query(mesh, rank):
    same(metrics.nearest(SAMPLES, DATA, rank=rank, mesh=mesh), metrics.nearest(SAMPLES, DATA, rank=rank))
    own = {"rank": rank, "exclude_self": True}
    same(metrics.nearest(DATA, DATA, mesh=mesh, **own), metrics.nearest(DATA, DATA, **own))


def test_precision_recall_and_the_ratio_are_the_same_on_devices(mesh):
    assert metrics.precision_recall(SAMPLES, DATA, mesh=mesh) == metrics.precision_recall(SAMPLES, DATA)
    ratio = metrics.nearest_neighbour_ratio(SAMPLES, DATA, mesh=mesh)
    assert ratio == metrics.nearest_neighbour_ratio(SAMPLES, DATA)


def test_a_lost_mode_costs_recall_on_devices_too():
    two = np.concatenate([DATA, DATA + 100])
    assert metrics.precision_recall(DATA, two, mesh=sharding.mesh()) == (1.0, 0.5)
    assert metrics.precision_recall(two, DATA, mesh=sharding.mesh()) == (0.5, 1.0)


def test_blocks_do_not_show(monkeypatch):
    whole = screening.candidates(SAMPLES, DATA, 4, sharding.mesh())
    monkeypatch.setattr(screening, "BLOCK", 3)
    screening._screen.cache_clear()
    np.testing.assert_array_equal(screening.candidates(SAMPLES, DATA, 4, sharding.mesh()), whole)


def test_small_distances_far_from_the_origin_keep_their_digits():
    # In float32 alone 10^4 + 10^-6 is 10^4: the candidates are compared in float64.
    points = 1e4 + DATA
    distances, indices = metrics.nearest(points + 1e-6, points, mesh=sharding.mesh())
    np.testing.assert_allclose(distances, 5**0.5 * 1e-6, rtol=1e-5)
    np.testing.assert_array_equal(indices, np.arange(len(points)))


def test_copies_are_found_and_few_points_are_enough():
    distances, _ = metrics.nearest(DATA[:7], DATA, mesh=sharding.mesh())
    np.testing.assert_array_equal(distances, 0)
    same(
        metrics.nearest(SAMPLES, DATA[:2], rank=2, mesh=sharding.mesh()),
        metrics.nearest(SAMPLES, DATA[:2], rank=2),
    )
    with pytest.raises(ValueError, match="neighbour"):
        metrics.nearest(DATA[:3], DATA[:3], rank=3, exclude_self=True, mesh=sharding.mesh())


def test_the_reach_of_a_point_counts():
    points, reach = np.array([[0.0], [1.0], [10.0]]), np.array([0.1, 0.1, 20.0])
    found = screening.candidates(np.array([[0.4]]), points, 1, sharding.mesh(), reach=reach)
    np.testing.assert_array_equal(found, [[2]])


def test_a_device_has_its_part_of_the_queries_and_exchanges_candidates_alone():
    mesh = sharding.mesh()
    split, copied = sharding.batched(mesh), sharding.replicated(mesh)
    shape = lambda shape, where, kind=np.float32: jax.ShapeDtypeStruct(shape, kind, sharding=where)
    n, m, d, block = 8 * 4096, 4096, 16, 32
    arguments = (
        shape((n,), split, np.int32),
        shape((n, d), split),
        shape((m, d), copied),
        shape((m,), copied),
    )
    compiled = screening._screen(mesh, 4, block, False).lower(*arguments).compile()
    # A block of 32 x m at a time, with the numbers that it is sorted with, in place of 4096 x m.
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * n / mesh.size * m / 10
    assert collectives(compiled.as_text()) == [("all-gather", n * 4 * 4)]

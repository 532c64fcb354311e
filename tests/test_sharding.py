"""Meshes, and what a compiled step exchanges between their devices."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxscore import sharding, trainer, updates
from tests.collectives import collectives

N = 8


def test_the_mesh_uses_every_device():
    shapes = {(-1, 1): (8, 1), (8, 1): (8, 1), (-1, 2): (4, 2), (4, -1): (4, 2), (1, -1): (1, 8)}
    for asked, given in shapes.items():
        mesh = sharding.mesh(*asked)
        assert (mesh.axis_names, mesh.devices.shape) == (("data", "fsdp"), given)
        # Auto: programs are partitioned by the compiler, with no annotation in the library.
        assert mesh.axis_types == (jax.sharding.AxisType.Auto,) * 2
    assert sharding.mesh(2, 1, devices=jax.devices()[:2]).devices.shape == (2, 1)


@pytest.mark.parametrize("shape", [(3, 1), (4, 1), (-1, 3), (-1, -1), (0, -1), (-1, 0), (16, 1), (-2, -4)])
def test_a_mesh_that_leaves_devices_over_is_refused(shape):
    with pytest.raises(ValueError, match=r"a mesh of -?\d+ x -?\d+ does not use 8 devices"):
        sharding.mesh(*shape)


@pytest.mark.parametrize("fsdp", [1, 4, 8])
def test_a_batch_is_split_over_all_devices_and_a_state_copied(fsdp):
    mesh = sharding.mesh(fsdp=fsdp)
    batch = jax.device_put(jnp.arange(16.0).reshape(16, 1), sharding.batched(mesh))
    parts = [shard.data[:, 0].tolist() for shard in batch.addressable_shards]
    assert sorted(parts) == [[2.0 * n, 2.0 * n + 1] for n in range(N)]
    state = jax.device_put(jnp.arange(3.0), sharding.replicated(mesh))
    assert [shard.data.shape for shard in state.addressable_shards] == [(3,)] * N


# The state ----------------------------------------------------------------------------------------


def test_the_largest_axis_that_can_be_split_is():
    shapes = {"kernel": (3, 3, 64, 128), "square": (64, 64), "first": (128, 65)}
    shapes |= {"odd": (99, 101), "small": (512,), "step": ()}
    tree = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    places = sharding.fsdp(sharding.mesh(fsdp=4), tree)
    expected = {"kernel": (None, None, None, "fsdp"), "square": (None, "fsdp"), "first": ("fsdp",)}
    specs = {name: tuple(place.spec) for name, place in places.items()}
    assert specs == expected | {"odd": (), "small": (), "step": ()}
    smaller = sharding.fsdp(sharding.mesh(fsdp=4), tree, smallest=512)
    assert tuple(smaller["small"].spec) == ("fsdp",)
    assert sharding.fsdp(sharding.mesh(), tree)["square"].is_fully_replicated  # without fsdp


# A step -------------------------------------------------------------------------------------------


WIDTH = 64


def init(key):
    key_in, key_out = jax.random.split(key)
    return {
        "in": {"kernel": jax.random.normal(key_in, (16, WIDTH)) / 4, "bias": jnp.zeros(WIDTH)},
        "out": {"kernel": jax.random.normal(key_out, (WIDTH, 16)) / 8},
    }


def loss(params, context, batch):
    x = batch["x"]
    hidden = jnp.tanh(x @ params["in"]["kernel"] + params["in"]["bias"][None])
    return jnp.mean((hidden @ params["out"]["kernel"] - x) ** 2), {}


TX = optax.adam(1e-2)


def compiled_step(mesh):
    """The state, where it belongs, and the compiled step."""
    shapes = jax.eval_shape(lambda key: trainer.init_state(key, init, TX), jax.random.key(0))
    places = sharding.fsdp(mesh, shapes, smallest=128)
    make = jax.jit(lambda key: trainer.init_state(key, init, TX), out_shardings=places)
    gather = sharding.gathered(places.params)
    update = updates.descent(lambda params, *of: loss(gather(params), *of), TX)
    step = trainer.make_step(update)
    jitted = jax.jit(step, donate_argnums=1, out_shardings=(places, sharding.replicated(mesh)))
    state = make(jax.random.key(0))
    x = {"x": jax.device_put(jnp.sin(jnp.arange(32 * 16.0)).reshape(32, 16), sharding.batched(mesh))}
    return state, x, jitted.lower(jax.random.key(1), state, x).compile()


@pytest.fixture(scope="module")
def steps():
    return {shape: compiled_step(sharding.mesh(*shape)) for shape in [(8, 1), (1, 8), (2, 4)]}


def test_data_parallel_exchanges_the_gradient_once(steps):
    """The devices exchange nothing else."""
    state, _, compiled = steps[8, 1]
    found = collectives(compiled.as_text())
    assert {kind for kind, _ in found} == {"all-reduce"}
    gradient = sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))
    # Beside the gradient, the loss: one float32.
    assert sum(size for _, size in found) == gradient + 4


def test_fully_sharded_gathers_parameters_not_activations(steps):
    state, _, compiled = steps[1, 8]
    found = collectives(compiled.as_text())
    gathered = sum(size for kind, size in found if kind == "all-gather")
    split = [leaf for leaf in jax.tree.leaves(state.params) if leaf.size >= 128]
    assert gathered == sum(leaf.nbytes for leaf in split)
    assert {kind for kind, _ in found} <= {"all-gather", "all-reduce", "reduce-scatter"}


@pytest.mark.parametrize("shape", [(1, 8), (2, 4)])
def test_fully_sharded_a_device_has_its_part_of_the_state_alone(steps, shape):
    state, _, compiled = steps[shape]
    here = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert here <= (1 / shape[1] + 0.05) * whole
    # And so has the program: its arguments are the state, the batch and the key, and the state is donated.
    memory = compiled.memory_analysis()
    assert memory.argument_size_in_bytes <= here + 4 * 32 * 16 // 8 + 100
    assert memory.alias_size_in_bytes >= here - 100


def test_a_step_is_the_same_however_it_is_laid_out(steps):
    ends = {}
    for shape, (state, x, compiled) in steps.items():
        after, metrics = compiled(jax.random.key(1), jax.tree.map(jnp.copy, state), x)
        ends[shape] = jax.device_get((after, metrics))
        assert after.params["in"]["kernel"].sharding == state.params["in"]["kernel"].sharding
    for shape in [(1, 8), (2, 4)]:
        # Sums of other orders; Adam's first step divides a gradient by its own size.
        chex.assert_trees_all_close(ends[8, 1], ends[shape], rtol=1e-5, atol=1e-6)


# Rows of the batch --------------------------------------------------------------------------------


@pytest.mark.parametrize("fsdp", [1, 4])
def test_rows_are_placed_where_they_belong(fsdp):
    where = sharding.batched(sharding.mesh(fsdp=fsdp))
    rows = sharding.rows_here(where, 16)
    np.testing.assert_array_equal(rows, np.arange(16))  # one process holds them all
    local = np.random.default_rng(0).random((16, 3)).astype(np.float32)
    placed = sharding.place(local, where, rows, 16)
    assert placed.sharding == where
    np.testing.assert_array_equal(placed, local)


def test_a_batch_that_the_devices_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="12"):
        sharding.rows_here(sharding.batched(sharding.mesh()), 12)

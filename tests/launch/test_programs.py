"""The three programs: what goes in and out of them, where its parts lie, and what they draw."""

import chex
import jax
import jax.numpy as jnp
import pytest

from jaxscore.launch import programs
from jaxscore.launch.config import Mesh
from jaxscore.launch.flags import FlagError
from tests.launch import tiny
from tests.launch.tiny import Config


@pytest.mark.parametrize("fsdp", [1, 8])
def test_a_step_maps_a_state_to_one_of_the_same_kind(fsdp):
    """Shapes, types and shardings are those announced; the state that was given is gone."""
    experiment = tiny.build(Config(mesh=Mesh(fsdp=fsdp)))
    mesh = programs.mesh_of(experiment.config)
    abstract = programs.abstract_state(experiment, mesh)
    state = programs.make_init(experiment, mesh)(jax.random.key(0))
    chex.assert_trees_all_equal_shapes_and_dtypes(state, abstract)
    batch = programs.abstract_batch(experiment, mesh)
    assert {name: leaf.shape for name, leaf in batch.items()} == {"x": (16, 2), "planted": (16,)}
    batch = {name: jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding) for name, leaf in batch.items()}
    after, metrics = programs.make_step(experiment, mesh)(jax.random.key(1), state, batch)
    assert int(after.step) == 1
    assert metrics["loss"].shape == ()
    chex.assert_trees_all_equal_shapes_and_dtypes(after, abstract)
    same = lambda leaf, expected: leaf.sharding.is_equivalent_to(expected.sharding, leaf.ndim)
    assert jax.tree.all(jax.tree.map(same, after, abstract))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_a_mesh_that_does_not_fit_is_refused():
    error = r"^--mesh.data 3 --mesh.fsdp 1: a mesh of 3 x 1 does not use 8 devices"
    with pytest.raises(FlagError, match=error):
        programs.mesh_of(Config(mesh=Mesh(data=3)))
    with pytest.raises(FlagError, match=r"^--batch 16: .* the 8 devices x 4 microbatches"):
        programs.mesh_of(Config(microbatches=4))


@pytest.mark.parametrize("fields", [{"loss": None}, {"players": {"a": None}}])
def test_an_experiment_has_a_loss_or_players(fields):
    experiment = tiny.build(Config())._replace(**fields)
    with pytest.raises(ValueError, match="'tiny' must have either a loss or players"):
        programs.update(experiment)

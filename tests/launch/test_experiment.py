"""What an experiment may say beside its functions, and that the programs heed it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore.launch import programs
from tests.launch import tiny
from tests.launch.tiny import Config


def test_a_batch_is_a_function_of_its_step():
    """batches(k) goes on as batches(0) does from step k, and rows of a batch are its rows."""
    batches = tiny.build(Config()).batches
    whole = [batch for batch, _ in zip(batches(0), range(4), strict=False)]
    rows = np.array([1, 5])
    equal = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)
    equal(next(batches(3)), whole[3])
    equal(next(batches(2, rows)), jax.tree.map(lambda leaf: leaf[rows], whole[2]))


def test_a_batch_with_an_event_needs_no_data():
    asked = []
    experiment = tiny.build(Config(), tiny.hooks(before={0: lambda: asked.append(0)}))
    mesh = programs.mesh_of(experiment.config)
    drawn = programs.abstract_batch(experiment, mesh)
    assert asked == [0]
    event = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), drawn)
    assert programs.abstract_batch(experiment._replace(event=event), mesh) == drawn
    assert asked == [0]


def test_only_what_it_picks_is_averaged():
    experiment = tiny.build(Config())._replace(averaged=lambda params: params["out"])
    state = programs.abstract_state(experiment, programs.mesh_of(experiment.config))
    assert set(state.params) == {"in", "out"}
    assert jax.tree.structure(state.ema) == jax.tree.structure(state.params["out"])


@pytest.mark.parametrize("program", ["step", "sampler"])
def test_its_compiler_options_reach_the_compiler(program):
    experiment = tiny.build(Config())._replace(compiler_options={"xla_no_such_option": "1"})
    mesh = programs.mesh_of(experiment.config)
    state = programs.abstract_state(experiment, mesh)
    lowered = {
        "step": lambda: programs.make_step(experiment, mesh).lower(
            jax.random.key(0), state, programs.abstract_batch(experiment, mesh)
        ),
        "sampler": lambda: programs.make_sampler(experiment, "two", mesh, 16).lower(
            state.ema, jax.random.key(0), jnp.int32(0)
        ),
    }[program]()
    with pytest.raises(Exception, match="xla_no_such_option"):  # which type it raises depends on the release
        lowered.compile()

"""What an experiment may say beside its functions, and that the programs heed it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore.launch import balanced, programs, sample
from tests.launch import tiny
from tests.launch.tiny import Config


@pytest.mark.parametrize(("label", "classes"), [(None, [5, 6, 0, 1]), (3, [3, 3, 3, 3])])
def test_samples_have_the_classes_in_turn_or_one(label, classes):
    assert balanced(7, label)(jnp.arange(5, 9)).tolist() == classes


@pytest.mark.parametrize("rows", [1, 16])
def test_a_samples_condition_is_that_of_its_number(rows):
    """Whatever the size of the parts in which samples are drawn."""
    told = lambda params, keys, condition: condition[:, None] * 1.0
    experiment = tiny.build(Config(sample_batch=rows, samples=20))
    experiment = experiment._replace(samplers={"told": told}, conditions=balanced(3))
    params = jax.jit(experiment.init)(jax.random.key(0))
    drawn, _ = sample.draw(experiment, params, programs.mesh_of(experiment.config))
    np.testing.assert_array_equal(drawn["told"][:, 0], np.arange(20) % 3)


def test_only_what_it_picks_is_averaged():
    experiment = tiny.build(Config())._replace(averaged=lambda params: params["out"])
    state = programs.abstract_state(experiment, programs.mesh_of(experiment.config))
    assert set(state.params) == {"in", "out"}
    assert jax.tree.structure(state.ema) == jax.tree.structure(state.params["out"])


LOWERED = {
    "step": lambda experiment, mesh, state: programs.make_step(experiment, mesh).lower(
        jax.random.key(0), state, programs.abstract_batch(experiment, mesh)
    ),
    "sampler": lambda experiment, mesh, state: programs.make_sampler(experiment, "two", mesh, 16).lower(
        state.ema, jax.random.key(0), jnp.int32(0)
    ),
}


@pytest.mark.parametrize("program", LOWERED)
def test_its_compiler_options_reach_the_compiler(program):
    experiment = tiny.build(Config())._replace(compiler_options={"xla_no_such_option": "1"})
    mesh = programs.mesh_of(experiment.config)
    lowered = LOWERED[program](experiment, mesh, programs.abstract_state(experiment, mesh))
    with pytest.raises(Exception, match="xla_no_such_option"):  # which type it raises depends on the release
        lowered.compile()

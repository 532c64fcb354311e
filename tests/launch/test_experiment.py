"""What an experiment may say beside its functions, and that the programs heed it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore.launch import balanced, programs, sample
from tests.launch import tiny
from tests.launch.tiny import Config


def test_a_batch_is_a_function_of_its_step():
    """The stream from step k is the rest of the whole stream, and rows of a batch are its rows."""
    batches = partial(tiny.build(Config()).batches, batch=16, seed=0)
    whole = [batch for batch, _ in zip(batches(), range(4), strict=False)]
    rows = np.array([1, 5])
    equal = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)
    equal(next(batches(start=3)), whole[3])
    equal(next(batches(start=2, rows=rows)), jax.tree.map(lambda leaf: leaf[rows], whole[2]))


def test_batches_have_leaves_each_split_over_the_devices():
    experiment = tiny.build(Config())
    batch = programs.abstract_batch(experiment, programs.mesh_of(experiment.config))
    assert {name: leaf.shape for name, leaf in batch.items()} == {"x": (16, 2), "planted": (16,)}
    assert all(len(leaf.sharding.device_set) == 8 for leaf in batch.values())


@pytest.mark.parametrize(("label", "classes"), [(None, [5, 6, 0, 1]), (3, [3, 3, 3, 3])])
def test_samples_have_the_classes_in_turn_or_one(label, classes):
    assert balanced(7, label)(jnp.arange(5, 9)).tolist() == classes


@pytest.mark.parametrize("rows", [1, 4, 16])
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

"""The two phases: which loss is taken, when the teacher is fixed, and how the rate falls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.families import setting as settings
from experiments.families import students
from jaxscore import samplers
from jaxscore.launch import Optimizer
from jaxscore.updates import Context
from tests.experiments.families import small


class Line:
    """A network with one parameter."""

    init = staticmethod(lambda key, x, c_noise: jnp.array(0.5))
    apply = staticmethod(lambda params, x, c_noise: params * x)


def config(**changes):
    return students.Config(data="25gaussians", batch=8, **{"steps": 10, "teacher": 0.4} | changes)


def built(config):
    """An experiment whose second phase has the loss 100 + its step."""
    learn = lambda params, teacher, context, x: 100.0 + context.step + 0 * x[:, 0]
    score = lambda params, x, sigma: params * x
    setting = settings.of("25gaussians")
    return students.experiment("made", config, setting, Line(), score, learn, samplers.euler())


@pytest.mark.parametrize("teacher", [0.4, 0.0, 1.0])
def test_the_phase_is_a_function_of_the_step(teacher):
    experiment = built(config(teacher=teacher))
    batch = next(experiment.batches(batch=8, seed=0))

    @jax.jit
    def loss(step, batch):
        context = Context(jax.random.key(0), step, jnp.array(0.3))
        value, metrics = experiment.loss({"network": 0.5, "teacher": 0.1}, context, batch)
        return value, metrics["untrained"]["teacher"]

    for step in (0, 3, 4, 9):
        value, kept = loss(step, batch)
        first = step < 10 * teacher
        assert float(value) < 50 if first else float(value) == 100 + step - 10 * teacher
        np.testing.assert_allclose(kept, 0.3 if first else 0.1)  # the average, or what it was


def test_both_start_alike_and_the_student_is_sampled():
    experiment = built(config())
    params = experiment.init(jax.random.key(0))
    assert params == {"network": 0.5, "teacher": 0.5}
    assert experiment.averaged({"network": 1.0, "teacher": 2.0}) == 1.0
    assert experiment.untrained == ("teacher",)


def test_the_rate_falls_to_zero_at_the_end_of_the_first_phase():
    rates = students.annealing(config(steps=100, optimizer=Optimizer(decay=0.5)))
    found = rates(jnp.array([0, 20, 30, 39, 40, 99]))
    np.testing.assert_allclose(found, [1, 1, 0.5, 0.05, 1, 1], rtol=1e-6)
    none = students.annealing(config(teacher=0.0))
    np.testing.assert_allclose(none(jnp.array([0, 5])), 1)


def test_evaluations_are_the_steps():
    assert students.evaluations(small.config("reflow")) == {"one step": 1, "two steps": 2}

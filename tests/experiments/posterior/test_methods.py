"""Every method draws; those that are exact for one number are exact; their evaluations are counted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.posterior import problems
from experiments.posterior.methods import METHODS
from jaxscore import mixtures

PROBLEM = problems.one_number(50)
EXACT = [
    "exact score, Heun",
    "exact score, ancestral",
    "PiGDM",
    "PiGDM, Heun",
    "particles, 16",
    "particles, 64",
]


def drawn(name, n=2048):
    draw = jax.jit(lambda key, problem: METHODS[name].draw(key, problem, n))
    return np.asarray(draw(jax.random.key(0), PROBLEM), float)


@pytest.mark.parametrize("name", EXACT)
def test_exact_methods_find_the_posterior_of_one_number(name):
    x = drawn(name)
    assert x.shape == (2048, 1)
    # 4 standard errors of 2,048 draws are 0.025 and 0.018. 50 steps of first order narrow it by 0.04.
    np.testing.assert_allclose(x.mean(), 0.917, atol=0.03)
    np.testing.assert_allclose(x.std(), 0.287, atol=0.06)


@pytest.mark.parametrize("name", sorted(set(METHODS) - set(EXACT)))
def test_the_others_are_finite_and_see_the_measurement(name):
    x = drawn(name, 300)
    assert np.isfinite(x).all()
    if name == "no measurement":
        assert abs(x.mean()) < 0.25  # 4 standard errors of 300 draws from N(0, 1)
    else:
        assert 0.5 < x.mean() < 1.2


@pytest.mark.parametrize("name", METHODS)
def test_evaluations_are_counted_by_running(name, monkeypatch):
    calls = []

    def counted(mixture, x, sigma):
        jax.debug.callback(lambda: calls.append(1))
        return -x / (1 + sigma**2)[:, None]

    monkeypatch.setattr(mixtures, "score", counted)
    problem = PROBLEM._replace(sigmas=jnp.array([8.0, 2.0, 0.5, 0.0]))
    x = METHODS[name].draw(jax.random.key(0), problem, 32)
    jax.block_until_ready(x)
    jax.effects_barrier()
    # A call of the score has all 32 rows, and with particles those of all runs, 16 of them at least.
    particles = int(name.split(", ")[1]) if name.startswith("particles") else 0
    runs = max(16, 32 // particles) if particles else 1
    rows = particles * runs / 32 if particles else 1
    assert METHODS[name].evaluations(3, 32) == pytest.approx(len(calls) * rows)

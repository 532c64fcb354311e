import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import mixtures, noise, samplers
from tests.samplers import oracle
from tests.samplers.test_ode import GAUSSIAN, X, flow

PUBLISHED = Path(__file__).parent / "parity"


def test_two_steps_of_memory_are_the_published_solver():
    """k-diffusion's DPM-Solver++(2M) on a mixture, in float64: every point from sigma = 20 to 0."""
    with jax.enable_x64(True), np.load(PUBLISHED / "dpmpp_2m.npz") as case:
        mixture = mixtures.isotropic(
            case["mixture_weights"], case["mixture_means"], float(case["mixture_std"])
        )
        score = functools.partial(mixtures.score, mixture)
        path = oracle.run(samplers.dpm_solver_pp(), case["x_T"], case["sigmas"], score).path
        np.testing.assert_allclose(path, case["x"][1:], rtol=1e-9, atol=1e-11)


def test_order_one_is_eulers_method():
    sigmas = noise.levels(noise.karras(0.1, 3.0), 6)
    ends = [
        oracle.run(sampler, X, sigmas, GAUSSIAN).x
        for sampler in (samplers.dpm_solver_pp(1), samplers.euler())
    ]
    np.testing.assert_allclose(*ends, rtol=1e-5)


def test_halving_the_steps_divides_the_error_by_four():
    def error(steps):
        end = oracle.run(samplers.dpm_solver_pp(), X, jnp.geomspace(3.0, 0.5, steps + 1), GAUSSIAN).x
        return np.max(np.abs(np.asarray(end, float) - flow(X, 3.0, 0.5)))

    errors = [error(steps) for steps in (16, 32, 64)]
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 4, atol=0.4)


@pytest.mark.parametrize("n", [2, 3, 12])
@pytest.mark.parametrize("order", [1, 2])
def test_a_constant_denoiser_is_reached_exactly(order, n):
    """Also with equal levels in the grid: nothing is NaN, in the gradient neither."""
    point = jnp.array([3.0, -1.0])
    score = lambda x, sigma: (point[None] - x) / sigma[:, None] ** 2
    sigmas = jnp.append(jnp.repeat(jnp.geomspace(80.0, 0.01, n), 2), 0.0)
    end = lambda x, sigmas: samplers.sample(
        jax.random.key(0), x, sigmas, score, samplers.dpm_solver_pp(order)
    )[0]
    np.testing.assert_allclose(end(X, sigmas), jnp.tile(point, (3, 1)), rtol=1e-5)
    slopes = jax.grad(lambda sigmas: end(X, sigmas).sum())(sigmas)
    assert np.isfinite(slopes).all()


def test_a_step_costs_one_evaluation():
    assert samplers.evaluations(samplers.dpm_solver_pp(), 14) == 14


def test_an_order_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="order = 3 must be 1 or 2"):
        samplers.dpm_solver_pp(3)

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import mixtures, noise, samplers
from tests.samplers import oracle

MEAN, S0 = np.array([1.0, -2.0]), 0.7
GAUSSIAN = functools.partial(mixtures.score, mixtures.isotropic([1.0], [MEAN.tolist()], S0))
X = jnp.array([[4.0, 1.0], [-2.0, 0.5], [0.3, -6.0]])


def flow(x, sigma, sigma_next):
    """The probability flow of N(MEAN, S0^2 I), in closed form: offsets shrink with the std."""
    ratio = np.sqrt((S0**2 + sigma_next**2) / (S0**2 + sigma**2))
    return MEAN + (np.asarray(x, float) - MEAN) * ratio


def error(sampler, steps):
    # Even steps from 3 to 0.5: halving them halves every step.
    end = oracle.run(sampler, X, jnp.linspace(3.0, 0.5, steps + 1), GAUSSIAN).x
    return np.max(np.abs(np.asarray(end, float) - flow(X, 3.0, 0.5)))


@pytest.mark.parametrize(
    ("sampler", "factor", "tolerance"),
    [
        (samplers.euler(), 2, 0.2),
        (samplers.heun(), 4, 0.4),
        (samplers.dpm_solver_2(), 4, 0.4),
        (samplers.dpm_solver_pp_2s(), 4, 0.4),
    ],
)
def test_halving_the_step_divides_the_error_by_two_to_the_order(sampler, factor, tolerance):
    errors = [error(sampler, steps) for steps in (16, 32, 64)]
    assert errors[-1] > 1e-5  # well above the rounding of float32
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), factor, atol=tolerance)


@pytest.mark.parametrize("sampler", [samplers.euler(), samplers.heun()])
def test_the_key_does_not_enter(sampler):
    sigmas = noise.levels(noise.karras(0.1, 3.0), 5)
    ends = [oracle.run(sampler, X, sigmas, GAUSSIAN, seed=seed).x for seed in (0, 1)]
    np.testing.assert_array_equal(*ends)


def test_heun_turns_noise_into_the_data():
    n, sigmas = 20_000, noise.levels(noise.karras(0.01, 20.0), 18)
    x = samplers.prior(jax.random.key(0), (n, 2), sigmas[0])
    ring = mixtures.ring()
    x = oracle.run(samplers.heun(), x, sigmas, functools.partial(mixtures.score, ring)).x
    # Weights: 4 standard errors, 0.01. Radii: N(4, 0.3^2) on the plane, to the error of 18 steps.
    np.testing.assert_allclose(mixtures.mode_weights(ring, x), 1 / 8, atol=0.01)
    _, covariance = mixtures.moments(ring)
    np.testing.assert_allclose(np.cov(np.asarray(x).T), covariance, atol=0.02 * covariance[0, 0])

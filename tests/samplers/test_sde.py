import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import samplers
from tests.draws import assert_gaussian
from tests.samplers import oracle

N = 20_000
SIGMA, SIGMA_NEXT = 1.5, 0.9


def test_a_step_is_the_posterior_given_the_clean_example():
    """For a point mass at m the step is exact: x_next | x, m by Bayes' rule for Gaussians."""
    m, x = 2.0, 5.0
    point = lambda x, sigma: -(x - m) / sigma[:, None] ** 2
    end = oracle.run(samplers.ancestral(), jnp.full((N, 1), x), [SIGMA, SIGMA_NEXT], point).x
    # x_next = m + sigma_next n and x = x_next + sqrt(sigma^2 - sigma_next^2) n': precisions add.
    from_data, from_x = 1 / SIGMA_NEXT**2, 1 / (SIGMA**2 - SIGMA_NEXT**2)
    assert_gaussian(end, (m * from_data + x * from_x) / (from_data + from_x), 1 / (from_data + from_x))


# From p_sigma of N(0, S0^2) the next x is Gaussian too, of the variance of p_sigma_next and a known error.
S0 = 0.8
V, REMOVED = S0**2 + SIGMA**2, SIGMA**2 - SIGMA_NEXT**2
ERRORS = {
    # x0 is replaced by its mean, which leaves (1 - (sigma_next / sigma)^2)^2 Var[x0 | x] out.
    "ancestral": (samplers.ancestral(), -((REMOVED / SIGMA**2) ** 2) * S0**2 * SIGMA**2 / V),
    # The forward step backwards: (1 - removed / v)^2 v + removed, of second order in the step.
    "reverse diffusion": (samplers.reverse_diffusion(), REMOVED**2 / V),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_step_on_a_gaussian_has_the_variance_of_its_formula(name):
    sampler, error = ERRORS[name]
    gaussian = lambda x, sigma: -x / (S0**2 + sigma[:, None] ** 2)
    start = samplers.prior(jax.random.key(0), (N, 1), V**0.5)
    assert_gaussian(oracle.run(sampler, start, [SIGMA, SIGMA_NEXT], gaussian).x, 0, V - REMOVED + error)


def test_its_mean_is_the_ancestral_steps_and_its_noise_is_more():
    x, sigmas = jnp.zeros((N, 1)), jnp.array([2.0, 1.0])
    still = lambda x, sigma: jnp.zeros_like(x)
    reverse, ancestral = samplers.reverse_diffusion(), samplers.ancestral()
    run = lambda sampler: oracle.run(sampler, x, sigmas, still).x
    np.testing.assert_allclose(run(reverse), 2 * run(ancestral), rtol=1e-5)  # sigma / sigma_next
    assert_gaussian(run(reverse), 0, 3)
    constant = lambda x, sigma: jnp.full_like(x, 1e5)
    np.testing.assert_allclose(oracle.run(reverse, x[:5], sigmas, constant).x, 3e5, rtol=1e-4)


FOLLOW = {
    # By the formula above from level to level, with S0 = 0.5 or 2.3: up to 9.6 % of the variance.
    "ancestral": (samplers.ancestral(), 0.10),
    # Its noise is that of the level before (v = sigma^2 at sigma_next is stationary, by the formula above for
    # S0 = 0, on geometric levels); theirs have the ratio 60^(1/39), squared 1.23.
    "reverse diffusion": (samplers.reverse_diffusion(), 0.23),
}


@pytest.mark.parametrize("name", FOLLOW)
def test_it_follows_the_levels_of_a_mixture(name):
    sampler, bias = FOLLOW[name]
    oracle.assert_follows_the_levels(sampler, stays=False, bias=bias)

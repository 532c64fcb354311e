import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import noise, samplers
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


# Orders on a Gaussian ----------------------------------------------------------------------------


def variance(sampler, n, draws, monkeypatch):
    """The variance at sigma = 0.3 after n even steps in ln sigma from 3.0, for N(0, 0.8^2).

    Steps are linear in x and in their noise. Row 0 starts at one standard deviation and has no noise. Each of
    the other rows starts at 0 and has one draw, of size 1. The variance is the sum of the squared ends.
    """
    sigmas, rows = np.geomspace(3.0, 0.3, n + 1), 1 + n * draws
    score = lambda x, sigma: -x / (0.64 + sigma**2)[:, None]

    @jax.jit
    def step(z, x, memory, sigma, sigma_next):
        waiting = list(z)
        monkeypatch.setattr(noise, "normal", lambda key, shape, dtype: waiting.pop(0))
        return sampler.step(jax.random.key(0), x, memory, score, sigma, sigma_next)

    z = np.zeros((n * draws, rows, 1))
    z[np.arange(n * draws), np.arange(1, rows)] = 1
    x = jnp.zeros((rows, 1)).at[0].set(np.sqrt(0.64 + 9.0))
    memory = sampler.init(x)
    for i in range(n):
        drawn = jnp.asarray(z[draws * i : draws * (i + 1)])
        x, memory = step(drawn, x, memory, jnp.asarray(sigmas[i]), jnp.asarray(sigmas[i + 1]))
    return float((x**2).sum())


WEAK_ORDERS = {
    "ancestral": (samplers.ancestral(), 1, 1),
    "half of the noise": (samplers.ancestral(eta=0.5), 1, 1),
    "ancestral dpm_solver_2": (samplers.ancestral(samplers.dpm_solver_2()), 1, 2),
    "ancestral dpm_solver_pp_2s": (samplers.ancestral(samplers.dpm_solver_pp_2s()), 1, 2),
    "reverse_diffusion": (samplers.reverse_diffusion(), 1, 1),
    "euler_maruyama": (samplers.euler_maruyama(), 1, 1),
    "euler_maruyama, more noise": (samplers.euler_maruyama(2.0), 1, 1),
    "euler_maruyama, less noise": (samplers.euler_maruyama(0.3), 1, 1),
    "dpm_solver_pp 2": (samplers.dpm_solver_pp(2, eta=1.0, variant="heun"), 1, 2),
    "dpm_solver_pp 3": (samplers.dpm_solver_pp(3, eta=1.0), 1, 2),
    "dpm_solver_pp_sde": (samplers.dpm_solver_pp_sde(), 2, 1),
}


@pytest.mark.parametrize("name", WEAK_ORDERS)
def test_the_error_of_the_variance_falls_with_the_order(name, monkeypatch):
    """Without sampling error, in float64; from 64 to 128 steps the slope is that of the order within 0.2."""
    sampler, draws, order = WEAK_ORDERS[name]
    with jax.enable_x64(True):
        errors = [variance(sampler, n, draws, monkeypatch) / (0.64 + 0.09) - 1 for n in (64, 128)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


# Restarts ------------------------------------------------------------------------------------------


def test_restarts_keep_the_distribution():
    gaussian = lambda x, sigma: -x / (S0**2 + sigma[:, None] ** 2)
    sampler = samplers.restart(samplers.heun(), sigma_min=0.3, sigma_max=1.0, steps=10, times=3)
    start = samplers.prior(jax.random.key(0), (N, 1), (S0**2 + 9.0) ** 0.5)
    end = oracle.run(sampler, start, np.geomspace(3.0, 0.2, 30), gaussian).x
    assert_gaussian(end, 0, S0**2 + 0.04)


def test_a_restart_replaces_errors_of_the_way_down():
    """A start of twice the spread: the ways up make it right at the levels that they reach."""
    gaussian = lambda x, sigma: -x / (S0**2 + sigma[:, None] ** 2)
    start = samplers.prior(jax.random.key(0), (N, 1), 2 * (S0**2 + 9.0) ** 0.5)
    again = functools.partial(samplers.restart, samplers.heun(), sigma_min=0.3, sigma_max=3.0, steps=20)
    ends = [oracle.run(again(times=times), start, np.geomspace(3.0, 0.2, 30), gaussian).x for times in (1, 4)]
    errors = [abs(float(end.std()) / (S0**2 + 0.04) ** 0.5 - 1) for end in ends]
    # Each way up leaves the fraction (S0^2 + 0.2^2) / (S0^2 + 3^2) = 0.07 of the error of the variance.
    assert errors[0] < 0.12
    assert errors[1] < 0.02


WRONG = {
    "eta": (lambda: samplers.ancestral(eta=1.5), r"eta = 1\.5 must be in 0\.\.1"),
    "eta of both stages": (lambda: samplers.dpm_solver_pp_sde(eta=-1.0), r"eta = -1\.0 must be in 0\.\.1"),
    "strength": (lambda: samplers.euler_maruyama(-0.1), r"strength = -0\.1 must be at least 0"),
    "interval": (
        lambda: samplers.restart(samplers.heun(), sigma_min=2.0, sigma_max=1.0, steps=3),
        r"need 0 < sigma_min < sigma_max and rho > 0, not 2\.0, 1\.0 and 7\.0",
    ),
    "steps": (
        lambda: samplers.restart(samplers.heun(), sigma_min=0.1, sigma_max=1.0, steps=0),
        "need steps >= 1 and times >= 1, not 0 and 1",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_exist_is_refused(name):
    make, said = WRONG[name]
    with pytest.raises(ValueError, match=said):
        make()

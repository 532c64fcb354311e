import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxscore import mixtures, noise, samplers, score
from tests.samplers import oracle

N = 20_000


def test_a_step_is_the_posterior_given_the_clean_example():
    """For a point mass at m the step is exact: x_next | x, m by Bayes' rule for Gaussians."""
    m, sigma, sigma_next, x = 2.0, 1.5, 0.9, 5.0
    point = lambda x, sigma: -(x - m) / sigma[:, None] ** 2
    start = jnp.full((N, 1), x)
    end, _ = samplers.sample(
        jax.random.key(0), start, jnp.array([sigma, sigma_next]), point, samplers.ancestral()
    )
    # x_next = m + sigma_next n and x = x_next + sqrt(sigma^2 - sigma_next^2) n': precisions add.
    precision = 1 / sigma_next**2 + 1 / (sigma**2 - sigma_next**2)
    mean = (m / sigma_next**2 + x / (sigma**2 - sigma_next**2)) / precision
    np.testing.assert_allclose(np.mean(end), mean, atol=4 / np.sqrt(precision * N))
    np.testing.assert_allclose(np.var(end), 1 / precision, rtol=4 * np.sqrt(2 / N))


def test_a_step_has_the_moments_of_the_chain_on_a_gaussian():
    # From p_sigma of N(0, s0^2), x0 replaced by its mean: the next x is Gaussian too, with the mean's
    # variance a^2 (s0^2 + sigma^2) + noise, less than p_sigma_next's by what the mean leaves out:
    # (1 - (sigma_next / sigma)^2)^2 Var[x0 | x].
    s0, sigma, sigma_next = 0.8, 1.5, 0.9
    gaussian = lambda x, sigma: -x / (s0**2 + sigma[:, None] ** 2)
    start = samplers.prior(jax.random.key(0), (N, 1), float(np.hypot(s0, sigma)))
    end, _ = samplers.sample(
        jax.random.key(1), start, jnp.array([sigma, sigma_next]), gaussian, samplers.ancestral()
    )
    left_out = (1 - (sigma_next / sigma) ** 2) ** 2 * s0**2 * sigma**2 / (s0**2 + sigma**2)
    expected = s0**2 + sigma_next**2 - left_out
    np.testing.assert_allclose(np.var(end), expected, rtol=4 * np.sqrt(2 / N))


def test_the_last_step_is_tweedies_denoising():
    ring = functools.partial(mixtures.score, mixtures.ring())
    x = mixtures.draw(jax.random.key(0), mixtures.ring(), 50, sigma=0.2)
    end, _ = samplers.sample(jax.random.key(1), x, jnp.array([0.2, 0.0]), ring, samplers.ancestral())
    np.testing.assert_allclose(end, score.denoise(ring, x, jnp.full(50, 0.2)), rtol=1e-5)


def test_many_steps_give_the_mixture():
    mixture = mixtures.two_modes()
    exact = functools.partial(mixtures.score, mixture)
    sigmas = noise.levels(noise.karras(0.02, 20.0), 100)
    run = jax.jit(lambda key, x: samplers.sample(key, x, sigmas, exact, samplers.ancestral())[0])
    x = run(jax.random.key(1), samplers.prior(jax.random.key(0), (4000, 2), sigmas[0]))
    # 4 standard errors, 0.025, and 0.01 for starting from noise of 20 in place of p_20.
    np.testing.assert_allclose(mixtures.mode_weights(mixture, x), [0.8, 0.2], atol=0.035)
    near = np.asarray(x)[np.asarray(x).sum(axis=1) > 0]
    # 4 standard errors of a standard deviation, 5 %, and 3 % for a first-order solver.
    np.testing.assert_allclose(near.std(axis=0), 0.5, rtol=0.08)


# Reverse diffusion ----------------------------------------------------------------------------------


def test_reverse_diffusion_takes_the_forward_step_back():
    # On N(0, s0^2) both x and the noise are Gaussian: the variance after a step in closed form.
    s0, sigma, sigma_next = 0.8, 1.5, 0.9
    gaussian = lambda x, sigma: -x / (s0**2 + sigma[:, None] ** 2)
    start = samplers.prior(jax.random.key(0), (N, 1), float(np.hypot(s0, sigma)))
    end, _ = samplers.sample(
        jax.random.key(1), start, jnp.array([sigma, sigma_next]), gaussian, samplers.reverse_diffusion()
    )
    v, removed = s0**2 + sigma**2, sigma**2 - sigma_next**2
    expected = (1 - removed / v) ** 2 * v + removed
    # The right variance, v - removed, and removed^2 / v too much: second order in the step.
    np.testing.assert_allclose(expected, v - removed + removed**2 / v)
    np.testing.assert_allclose(np.var(end), expected, rtol=4 * np.sqrt(2 / N))


def test_its_mean_is_the_ancestral_steps_and_its_noise_is_more():
    x, sigmas = jnp.zeros((N, 1)), jnp.array([2.0, 1.0])
    still = lambda x, sigma: jnp.zeros_like(x)
    run = lambda sampler: samplers.sample(jax.random.key(0), x, sigmas, still, sampler)[0]
    reverse, ancestral = run(samplers.reverse_diffusion()), run(samplers.ancestral())
    np.testing.assert_allclose(reverse, 2 * ancestral, rtol=1e-5)  # sigma / sigma_next
    np.testing.assert_allclose(np.var(reverse), 3, rtol=4 * np.sqrt(2 / N))
    constant = lambda x, sigma: jnp.full_like(x, 1e5)
    drift = lambda sampler: samplers.sample(jax.random.key(0), x[:5], sigmas, constant, sampler)[0]
    np.testing.assert_allclose(drift(samplers.reverse_diffusion()), 3e5, rtol=1e-4)


def test_the_last_step_of_reverse_diffusion_is_tweedies():
    ring = functools.partial(mixtures.score, mixtures.ring())
    x = mixtures.draw(jax.random.key(0), mixtures.ring(), 50, sigma=0.2)
    end, _ = samplers.sample(jax.random.key(1), x, jnp.array([0.2, 0.0]), ring, samplers.reverse_diffusion())
    np.testing.assert_allclose(end, score.denoise(ring, x, jnp.full(50, 0.2)), rtol=1e-5)


def test_reverse_diffusion_follows_the_levels_of_a_mixture():
    # Its noise is that of the level before (v = sigma^2 at sigma_next is stationary, by the formula above
    # for s0 = 0, on geometric levels); theirs have the ratio 60^(1/39), squared 1.23.
    oracle.assert_follows_the_levels(samplers.reverse_diffusion(), stays=False, bias=0.23)

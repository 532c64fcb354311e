"""Guided scores against closed forms; each sampler's step against its formula."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import inverse, mixtures, noise, samplers
from jaxscore.inverse import exact, operators
from jaxscore.score import denoise
from tests.inverse import oracle
from tests.samplers.oracle import step

X = jax.random.normal(jax.random.key(0), (6, 3))
SIGMA = jnp.array([0.05, 0.3, 1.0, 1.0, 4.0, 20.0])


@pytest.mark.parametrize("level", [0.0, 0.05, 0.5])
def test_pigdm_is_exact_for_isotropic_gaussian_data(level):
    truth = exact.posterior(oracle.GAUSSIAN, oracle.OPERATOR, oracle.Y, noise=level)
    found = inverse.pigdm(oracle.GAUSSIAN_SCORE, oracle.OPERATOR, oracle.Y, noise=level, sigma_data=0.7)
    expected = mixtures.score(truth, X, SIGMA)
    np.testing.assert_allclose(
        found(X, SIGMA), expected, rtol=2e-3, atol=2e-3 * float(jnp.abs(expected).max())
    )


def test_pigdm_draws_from_the_posterior_of_a_gaussian():
    truth = exact.posterior(oracle.GAUSSIAN, oracle.OPERATOR, oracle.Y, noise=0.2)
    score = inverse.pigdm(oracle.GAUSSIAN_SCORE, oracle.OPERATOR, oracle.Y, noise=0.2, sigma_data=0.7)
    draw = lambda: samplers.generate(jax.random.key(1), (3000, 3), oracle.LEVELS, score, samplers.heun())
    oracle.assert_posterior(jax.jit(draw)(), truth=truth, bias=0.02)


def test_the_mean_of_ddnm_agrees_with_the_measurement():
    found = inverse.ddnm(oracle.SCORE, oracle.OPERATOR, oracle.Y)
    mean = np.asarray(denoise(found, X, SIGMA), float)
    # x / sigma^2 reaches 400 at the smallest level: float32 keeps three digits of the rest.
    np.testing.assert_allclose(mean @ oracle.MATRIX.T, np.broadcast_to(oracle.Y, (6, 2)), atol=2e-3)
    null = np.linalg.svd(oracle.MATRIX)[2][2:]
    before = np.asarray(denoise(oracle.SCORE, X, SIGMA), float)
    np.testing.assert_allclose(mean @ null.T, before @ null.T, atol=2e-3)


def test_the_mean_of_diffpir_is_the_proximal_point():
    found = inverse.diffpir(oracle.SCORE, oracle.OPERATOR, oracle.Y, noise=0.2, weight=3.0)
    mean = np.asarray(denoise(found, X, SIGMA), float)
    before = np.asarray(denoise(oracle.SCORE, X, SIGMA), float)
    for row, sigma in enumerate(np.asarray(SIGMA, float)):
        # The gradient of |y - A x|^2 / (2 noise^2) + weight |x - D|^2 / (2 sigma^2) vanishes at x.
        hessian = oracle.MATRIX.T @ oracle.MATRIX / 0.04 + 3.0 / sigma**2 * np.eye(3)
        right = oracle.MATRIX.T @ np.asarray(oracle.Y) / 0.04 + 3.0 / sigma**2 * before[row]
        np.testing.assert_allclose(mean[row], np.linalg.solve(hessian, right), atol=3e-3)


def test_dps_takes_the_papers_step():
    """In VP coordinates, x / sqrt(1 + sigma^2), the step is scale times the gradient of the norm."""
    sampler = inverse.dps(samplers.euler(), oracle.OPERATOR, oracle.Y, scale=0.5)
    x, _ = step(sampler, jax.random.key(0), X, 2.0, oracle.SCORE, 1.5)
    prior, _ = step(samplers.euler(), jax.random.key(0), X, 2.0, oracle.SCORE, 1.5)

    def norm(x_vp):
        mean = denoise(oracle.SCORE, (x_vp * 5**0.5)[None], jnp.array([2.0]))[0]
        return jnp.linalg.norm(oracle.Y - jnp.asarray(oracle.MATRIX, jnp.float32) @ mean)

    gradient = jax.vmap(jax.grad(norm))(X / 5**0.5)
    expected = np.asarray(prior) / 3.25**0.5 - 0.5 * np.asarray(gradient)
    np.testing.assert_allclose(np.asarray(x) / 3.25**0.5, expected, rtol=1e-4, atol=1e-5)


def test_dps_scales_the_step_of_each_row_by_its_own_norm():
    ys = jnp.concatenate([oracle.Y[None], 50.0 * jnp.ones((5, 2))])
    keys = lambda n: noise.row_keys(jax.random.key(0), 6)[:n]
    whole, _ = step(
        inverse.dps(samplers.ancestral(), oracle.OPERATOR, ys), keys(6), X, 1.0, oracle.SCORE, 0.5
    )
    alone, _ = step(
        inverse.dps(samplers.ancestral(), oracle.OPERATOR, oracle.Y), keys(1), X[:1], 1.0, oracle.SCORE, 0.5
    )
    np.testing.assert_allclose(whole[:1], alone, rtol=1e-5, atol=1e-6)


def test_dps_finds_solutions_of_operators_that_are_not_linear():
    operator = operators.Operator(lambda x: jnp.sum(x**2, axis=1, keepdims=True))
    sampler = inverse.dps(samplers.ancestral(), operator, jnp.array([4.0]), scale=0.1)
    draw = lambda: samplers.generate(jax.random.key(2), (200, 3), oracle.LEVELS, oracle.SCORE, sampler)
    x = np.asarray(jax.jit(draw)())
    np.testing.assert_allclose((x**2).sum(axis=1).mean(), 4.0, atol=0.3)  # of 2.9 +- 2.4 under the prior


def test_decoupled_draws_x0_from_its_conditional_distribution():
    """For data N(0, s^2 I), u is the denoised mean, and x0 given u and y is known."""
    prior = mixtures.isotropic([1.0], [[0.0, 0.0, 0.0]], 0.7)
    score = functools.partial(mixtures.score, prior)
    x = jnp.broadcast_to(jnp.array([[1.0, -2.0, 0.5]]), (4000, 3))
    sampler = inverse.decoupled(oracle.OPERATOR, oracle.Y, noise=0.3, sigma_data=0.7)
    found, _ = step(sampler, jax.random.key(3), x, 1.5, score, 0.0)
    r = 0.7 * 1.5 / (0.49 + 2.25) ** 0.5
    u = np.array([[1.0, -2.0, 0.5]]) * 0.49 / (0.49 + 2.25)  # one step of Euler to 0 is the denoised mean
    truth = exact.posterior(mixtures.isotropic([1.0], u, r), oracle.OPERATOR, oracle.Y, noise=0.3)
    oracle.assert_posterior(found, truth=truth)
    later, _ = step(sampler, jax.random.key(3), x, 1.5, score, 0.8)
    mean, covariance = mixtures.moments(truth, sigma=0.8)
    oracle.assert_posterior(later, truth=mixtures.correlated([1.0], mean[None], covariance[None]))


def test_decoupled_needs_a_step():
    with pytest.raises(ValueError, match="steps = 0"):
        inverse.decoupled(oracle.OPERATOR, oracle.Y, noise=0.1, sigma_data=1.0, steps=0)

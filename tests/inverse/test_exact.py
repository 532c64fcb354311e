"""The closed form against Bayes' rule on a grid, and against sampling with its score."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import inverse, mixtures, samplers
from jaxscore.inverse import operators
from tests.inverse import oracle


def test_the_density_is_that_of_bayes_rule():
    x = mixtures.draw(jax.random.key(0), oracle.PRIOR, 50)
    residual = np.asarray(x, float) @ oracle.MATRIX.T - np.asarray(oracle.Y)
    log_joint = np.asarray(mixtures.log_density(oracle.PRIOR, x, 0.0), float)
    log_joint = log_joint - 0.5 * (residual**2).sum(axis=1) / oracle.NOISE**2
    found = np.asarray(mixtures.log_density(oracle.POSTERIOR, x, 0.0), float)
    # The evidence is one constant for all points; float32 keeps 1e-5 of exponents up to a few tens.
    np.testing.assert_allclose(found - log_joint, (found - log_joint)[0], atol=2e-4)


def test_equal_components_share_their_axes():
    prior = mixtures.isotropic([0.3, 0.7], [[1.0, 0.0, 2.0], [0.0, -1.0, 1.0]], 0.5)
    dense = mixtures.correlated(prior.weights, prior.means, mixtures.covariances(prior))
    shared = inverse.exact.posterior(prior, oracle.OPERATOR, oracle.Y, noise=0.2)
    each = inverse.exact.posterior(dense, oracle.OPERATOR, oracle.Y, noise=0.2)
    assert (shared.axes.shape, each.axes.shape) == ((1, 3, 3), (2, 3, 3))
    x = mixtures.draw(jax.random.key(1), prior, 20)
    for function in (mixtures.score, mixtures.log_density):
        np.testing.assert_allclose(function(shared, x, 0.3), function(each, x, 0.3), rtol=1e-4, atol=1e-4)
    draws = [mixtures.draw(jax.random.key(2), mixture, 20_000) for mixture in (shared, each)]
    for x in draws:
        oracle.assert_posterior(x, truth=shared)


def test_sampling_with_its_score_draws_from_it():
    score = functools.partial(mixtures.score, oracle.POSTERIOR)
    draw = lambda: samplers.generate(jax.random.key(3), (4000, 3), oracle.LEVELS, score, samplers.heun())
    oracle.assert_posterior(jax.jit(draw)(), bias=0.02)  # of 60 steps from N(0, 20^2 I)


def test_the_event_of_an_image_operator_is_found():
    prior = mixtures.isotropic([1.0], [np.zeros(16)], 1.0)
    operator = operators.downsample(2)
    y = jnp.ones((2, 2, 1))
    found = inverse.exact.posterior(prior, operator, y, noise=0.1)
    # y is the mean of four values from N(0, 1): the mean of x is y / (1 + 4 noise^2).
    np.testing.assert_allclose(mixtures.moments(found)[0], 1 / 1.04, rtol=1e-4)


def test_one_measurement_of_one_number():
    """The check of 1 line that public libraries fail: 0.917 +- 0.287 for y = x0 + 0.3 n = 1."""
    prior = mixtures.isotropic([1.0], [[0.0]], 1.0)
    found = inverse.exact.posterior(prior, operators.matrix(np.eye(1)), jnp.ones(1), noise=0.3)
    mean, covariance = mixtures.moments(found)
    np.testing.assert_allclose([mean[0], covariance[0, 0] ** 0.5], [1 / 1.09, 0.3 / 1.09**0.5], rtol=1e-5)


def test_without_noise_the_measured_part_has_no_spread():
    found = inverse.exact.posterior(oracle.PRIOR, oracle.OPERATOR, oracle.Y, noise=0.0)
    x = np.asarray(mixtures.draw(jax.random.key(4), found, 100))
    np.testing.assert_allclose(x @ oracle.MATRIX.T, np.broadcast_to(oracle.Y, (100, 2)), atol=2e-3)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"y has shape \(3,\); that is not one measurement of this operator"):
        inverse.exact.posterior(oracle.PRIOR, oracle.OPERATOR, jnp.ones(3), noise=0.1)
    with pytest.raises(ValueError, match=r"A is a matrix of shape \(4, 16\); the mixture has 3 dimensions"):
        inverse.exact.posterior(oracle.PRIOR, operators.downsample(2), jnp.ones((2, 2, 1)), noise=0.1)
    with pytest.raises(ValueError, match=r"noise = -0\.1"):
        inverse.exact.posterior(oracle.PRIOR, oracle.OPERATOR, oracle.Y, noise=-0.1)
    with pytest.raises(ValueError, match="the exact posterior needs a linear one"):
        inverse.exact.posterior(oracle.PRIOR, operators.phase_retrieval(), oracle.Y, noise=0.1)

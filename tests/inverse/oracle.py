"""A prior whose posterior is known: correlated modes in three dimensions, two numbers measured."""

import functools

import jax.numpy as jnp
import numpy as np

from jaxscore import inverse, mixtures, noise
from jaxscore.inverse import operators

PRIOR = mixtures.correlated(
    [0.6, 0.4],
    [[1.0, 0.0, -1.0], [-1.0, 1.0, 0.5]],
    [[[1.0, 0.5, 0.0], [0.5, 0.8, 0.2], [0.0, 0.2, 0.6]], 0.5 * np.eye(3)],
)
SCORE = functools.partial(mixtures.score, PRIOR)
MATRIX = np.array([[1.0, -0.5, 0.2], [0.3, 0.7, 0.0]])
OPERATOR = operators.matrix(MATRIX)
Y = jnp.array([0.4, 0.3])
NOISE = 0.4
POSTERIOR = inverse.exact.posterior(PRIOR, OPERATOR, Y, noise=NOISE)
LEVELS = noise.levels(noise.karras(0.01, 20.0), 60)
"""60 steps of first order make a distribution narrower by a tenth, 200 by a few percent."""

GAUSSIAN = mixtures.isotropic([1.0], [[0.5, -1.0, 0.0]], 0.7)
"""A prior for which PiGDM with sigma_data = 0.7 is exact."""
GAUSSIAN_SCORE = functools.partial(mixtures.score, GAUSSIAN)


def assert_posterior(x, *, bias=0.0, truth=POSTERIOR, errors=4.0):
    """Mean and covariance of x are those of the truth, to 4 standard errors and a relative bias."""
    x = np.asarray(x, float)
    mean, covariance = (np.asarray(each, float) for each in mixtures.moments(truth))
    scale = np.sqrt(np.diag(covariance))
    allowed = (errors / np.sqrt(len(x)) + bias) * scale
    assert (np.abs(x.mean(axis=0) - mean) <= allowed).all(), (x.mean(axis=0), mean)
    # For a Gaussian, the standard error of a covariance is sqrt((C_ii C_jj + C_ij^2) / n).
    allowed = errors * np.sqrt((np.outer(scale, scale) ** 2 + covariance**2) / len(x))
    away = np.abs(np.cov(x.T) - covariance)
    assert (away <= allowed + 2 * bias * np.outer(scale, scale)).all(), (np.cov(x.T), covariance)

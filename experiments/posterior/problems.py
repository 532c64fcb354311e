"""Priors, measurements and exact posteriors: one number, and the mixtures of Cardoso et al. 2024."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxscore import inverse, mixtures, noise, samplers
from jaxscore.inverse import operators
from jaxscore.mixtures import Mixture
from jaxscore.types import Array, ScoreFn

SPACING, SIDE = 8.0, 5
"""25 modes of unit variance on a grid, whose two coordinates are repeated."""


class Problem(NamedTuple):
    """Arrays of one problem; the functions make of them what the methods take, inside jit too."""

    prior: Mixture
    matrix: Array
    y: Array
    noise: Array
    posterior: Mixture
    sigmas: Array
    moments: samplers.Moments
    """Moments of the prior; samples start as they do without a measurement."""

    def score(self) -> ScoreFn:
        """Returns the exact score of the prior."""
        return lambda x, sigma: mixtures.score(self.prior, x, sigma)

    def exact(self) -> ScoreFn:
        """Returns the exact score of the posterior."""
        return lambda x, sigma: mixtures.score(self.posterior, x, sigma)

    def operator(self) -> operators.Operator:
        """Returns the measurement."""
        return operators.matrix(self.matrix)

    @property
    def sigma_data(self) -> Array:
        """Standard deviation of the prior, by coordinate."""
        return jnp.sqrt(jnp.mean(self.moments.variances))

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of x."""
        return self.moments.mean.shape


def _posed(prior: Mixture, matrix: np.ndarray, y: np.ndarray, std: float, sigmas: Array) -> Problem:
    posterior = inverse.exact.posterior(prior, operators.matrix(matrix), y, noise=std)
    mean, covariance = mixtures.moments(prior)
    variances, axes = np.linalg.eigh(np.asarray(covariance, np.float64))
    arrays = (jnp.asarray(each, jnp.float32) for each in (matrix, y, std))
    moments = samplers.Moments(mean, *(jnp.asarray(each, jnp.float32) for each in (variances, axes)))
    return Problem(prior, *arrays, posterior, sigmas, moments)


def one_number(levels: int) -> Problem:
    """Returns the smallest problem: x ~ N(0, 1), y = x + 0.3 z = 1, with the posterior N(0.917, 0.287^2)."""
    prior = mixtures.isotropic([1.0], [[0.0]], 1.0)
    return _posed(prior, np.eye(1), np.ones(1), 0.3, noise.levels(noise.karras(0.01, 80.0), levels))


def mixture(dimensions: int, measurements: int, seed: int, levels: int) -> Problem:
    """Returns a random problem of Cardoso et al. 2024, appendix B.1.

        prior         25 modes N((8 i, 8 j, 8 i, 8 j, ...), I), i and j from -2 to 2, of weights ~ z^2
        A             U S V', with random U and V, and singular values uniform in 0..1
        noise of y    uniform in 0..1, times the largest singular value

    Levels begin at 100 sqrt(dimensions), where the distance of the modes is a few percent of the noise.

    Args:
        dimensions: of x, an even number.
        measurements: of y.
        seed: of the problem.
        levels: number of noise levels.
    """
    rng = np.random.default_rng([seed, dimensions, measurements])
    line = SPACING * (np.arange(SIDE) - SIDE // 2)
    grid = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    prior = mixtures.isotropic(rng.standard_normal(len(grid)) ** 2, np.tile(grid, dimensions // 2), 1.0)
    left, _, right = np.linalg.svd(rng.standard_normal((measurements, dimensions)), full_matrices=False)
    singular = np.sort(rng.uniform(size=measurements))[::-1]
    matrix, std = left * singular @ right, rng.uniform() * singular[0]
    k = rng.choice(len(grid), p=np.asarray(prior.weights, float) / np.asarray(prior.weights, float).sum())
    x = np.asarray(prior.means, float)[k] + rng.standard_normal(dimensions)
    y = matrix @ x + std * rng.standard_normal(measurements)
    sigmas = noise.levels(noise.karras(0.01, 100.0 * dimensions**0.5), levels)
    return _posed(prior, matrix, y, std, sigmas)

"""Metropolis-adjusted Langevin dynamics: Langevin steps without the bias of a finite step.

The Langevin step is a proposal. It is accepted with the probability a, which makes the target density
stationary at any step size (Roberts & Tweedie 1996; Besag 1994):

    y = x + e s(x) + sqrt(2 e) z,    a = min(1, p(y) q(x | y) / (p(x) q(y | x)))
    q(y | x) = N(y; x + e s(x), 2 e I)

q uses the drift of the proposal. The sampled density is therefore the one of `log_density` for any score; a
score that does not match it lowers the acceptance, not the correctness. In high dimensions an acceptance near
0.574 is the most efficient (Roberts & Rosenthal 1998). The memory, a `Statistics`, holds the acceptance.

>>> import functools, jax
>>> from jaxscore import mixtures
>>> from jaxscore.samplers.base import sample
>>> mixture, sigmas = mixtures.ring(), jax.numpy.full(11, 1.0)
>>> x = mixtures.draw(jax.random.key(0), mixture, 100, sigma=1.0)
>>> sampler = metropolis(functools.partial(mixtures.log_density, mixture), 0.5)
>>> score = functools.partial(mixtures.score, mixture)
>>> x, accepted = sample(
...     jax.random.key(1), x, sigmas, score, sampler, collect=lambda x, memory: memory.acceptance.mean()
... )
>>> bool(0.5 < accepted[-1] < 1)
True
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxscore import noise
from jaxscore.samplers.base import Batch, Sampler, at
from jaxscore.samplers.langevin import StepSize, moved, sizes
from jaxscore.samplers.statistics import count_step, no_statistics
from jaxscore.types import Array, Key, ScoreFn, Sigma, right, shaped, wide

LogRatio = Callable[[ScoreFn, Array, Array, Array], Array]
"""log_ratio(score, x[b, ...], y[b, ...], sigma[b]) -> [b], an estimate of log p(y) - log p(x)."""


def metropolis(log_density: Callable[[Array, Array], Array], step_size: StepSize) -> Sampler:
    """Langevin step at sigma that is accepted or refused so that exp(log_density) is stationary.

    The drift is the `score` given to `sample`. For an energy model, give `score.from_log_density` of its
    density. A step costs two evaluations of the score and two of log_density. A proposal with a density of
    nan is refused.

    Args:
        log_density: log_density(x[b, ...], sigma[b]) -> [b]; it need not be normalised.
        step_size: step size e, or a function of sigma that returns e.

    Raises:
        ValueError: if `step_size` is a number that is not positive.
    """

    def log_ratio(score, x, y, sigma):
        return log_density(y, sigma) - log_density(x, sigma)

    return _adjusted(log_ratio, step_size)


def metropolis_along_path(step_size: StepSize, *, points: int = 3) -> Sampler:
    """`metropolis` for a score without a density: `log_ratio_along_path` estimates log p(y) - log p(x).

    The sampled density is exact if the score is a gradient and the path integral is exact, as for a Gaussian.
    A learned score is not quite a gradient, which leaves a bias smaller than the bias of the unadjusted step.
    A step costs 2 + points evaluations.

    Raises:
        ValueError: if `step_size` is a number that is not positive, or if points < 1.
    """
    _check_points(points)

    def log_ratio(score, x, y, sigma):
        return log_ratio_along_path(score, x, y, sigma, points=points)

    return _adjusted(log_ratio, step_size)


def log_ratio_along_path(
    score: ScoreFn, x: Batch, y: Batch, sigma: Sigma, *, points: int = 3
) -> Float[Array, "b"]:
    """Difference of the log densities at y and x, as an integral of the score along the straight line.

        log p(y) - log p(x) = integral over t in [0, 1] of s(x + t (y - x), sigma) . (y - x)

    Gauss-Legendre quadrature with `points` evaluations of the score. It is exact if s is a polynomial of
    degree 2 points - 1 along the line; a Gaussian has degree 1. Swapping x and y changes the sign only, as
    the Metropolis test requires.

    Args:
        score: score function.
        x: start of the line [b, ...].
        y: end of the line [b, ...].
        sigma: noise level of each row [b].
        points: number of quadrature points.

    Raises:
        ValueError: if points < 1.
    """
    _check_points(points)
    if y.shape != x.shape:
        raise ValueError(f"y has shape {y.shape}, and x has shape {x.shape}; they must be equal")
    x, y, score = wide(x), wide(y), shaped(score)
    nodes, weights = np.polynomial.legendre.leggauss(points)  # on [-1, 1]
    path = y - x

    def add(total, inputs):
        t, weight = inputs
        slope = jnp.sum(score(x + t * path, sigma) * path, axis=tuple(range(1, x.ndim)))
        return total + weight * slope, None

    # A scan compiles the network once for all points.
    inputs = jnp.asarray((nodes + 1) / 2, x.dtype), jnp.asarray(weights / 2, x.dtype)
    return jax.lax.scan(add, jnp.zeros(x.shape[:1], x.dtype), inputs)[0]


def _adjusted(log_ratio: LogRatio, step_size: StepSize) -> Sampler:
    """The Langevin proposal with the Metropolis-Hastings test."""
    size = sizes(step_size)

    def step(key, x, memory, score, sigma, sigma_next):
        del sigma_next  # a Langevin step stays at sigma
        z = noise.normal(noise.fold_in(key, 0), x.shape, x.dtype)
        e = jnp.broadcast_to(size(sigma), x.shape[:1])
        here = at(score, x, sigma)
        y = moved(x, here, z, e)
        drifts = here + at(score, y, sigma)
        log_a = log_ratio(score, x, y, jnp.full(x.shape[:1], sigma, x.dtype))
        if log_a.shape != e.shape:
            raise ValueError(f"the log density has shape {log_a.shape}; it must be {e.shape}, one per row")
        log_a = log_a + _log_proposal_ratio(drifts, z, e)
        accepted = jnp.log(_uniform(noise.fold_in(key, 1), len(x))) < log_a  # False for nan
        probability = jnp.where(jnp.isnan(log_a), 0.0, jnp.exp(jnp.minimum(log_a, 0.0)))
        x = jnp.where(right(accepted, x), y, x)
        return x, count_step(memory, here, z, e, sigma, probability)

    return Sampler(no_statistics, step)


def _log_proposal_ratio(drifts: Batch, z: Batch, e: Float[Array, "b"]) -> Float[Array, "b"]:
    """log q(x | y) - log q(y | x) = -sqrt(e/2) z . S - e/4 |S|^2, where S = s(x) + s(y).

    Terms that are equal in the squares `|x - y - e s(y)|^2` and `|y - x - e s(x)|^2 = 2 e |z|^2` are
    cancelled by hand. In high dimensions `|z|^2` would swamp the difference.
    """
    event = tuple(range(1, z.ndim))
    return -jnp.sqrt(e / 2) * jnp.sum(z * drifts, axis=event) - e / 4 * jnp.sum(drifts**2, axis=event)


def _uniform(key: Key, n: int) -> Float[Array, "n"]:
    """n uniforms in [0, 1); the i-th depends on the key and on i alone."""
    return jax.vmap(jax.random.uniform)(noise.row_keys(key, n))


def _check_points(points: int) -> None:
    if points < 1:
        raise ValueError(f"points = {points} must be at least 1")

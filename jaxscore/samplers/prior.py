"""The start of sampling: a Gaussian at the largest noise level, with the moments of the data.

>>> import jax
>>> from jaxscore import mixtures
>>> x = mixtures.draw(jax.random.key(0), mixtures.two_modes(), 1000)
>>> found = moments(x)
>>> start = prior(jax.random.key(1), (500, 2), 10.0, found)
>>> start.shape, bool(abs(start.mean(axis=0) - found.mean).max() < 1.5)
((500, 2), True)
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxscore import noise
from jaxscore.types import Array, Key

Batch = Float[Array, "b *event"]


class Moments(NamedTuple):
    """Mean and covariance of the data, for `prior`; the covariance is axes diag(variances) axes'."""

    mean: Array
    """[*event]."""
    variances: Array
    """[D], along the axes; or one number, the mean variance, for events of more than LARGEST numbers."""
    axes: Array | None = None
    """[D, D], the columns are the axes; None with one variance for all directions."""


BLOCK = 2000
"""Rows of the data that `moments` reads at a time."""

LARGEST = 1024
"""Largest event, in numbers, whose covariance is kept by `moments`."""


def moments(x: ArrayLike | Any) -> Moments:
    """Returns mean and covariance of the data x[n, ...]; mean and mean variance for events above LARGEST.

    x is an array, or anything that is indexed like one. Its rows are read in blocks, so that large data need
    little memory; 10,000 rows are enough.
    Raises ValueError if there are none, or if one is not finite.
    """
    x = x if hasattr(x, "shape") else np.asarray(x)
    if math.prod(x.shape) == 0:
        raise ValueError(f"x has shape {x.shape}; the moments need at least one example")
    blocks = [slice(i, i + BLOCK) for i in range(0, len(x), BLOCK)]
    flat = lambda block: np.asarray(x[block], np.float64).reshape(-1, math.prod(x.shape[1:]))
    mean = sum(flat(block).sum(axis=0) for block in blocks) / len(x)
    if not np.isfinite(mean).all():
        raise ValueError("the mean of x is not finite; the moments need finite numbers")
    centre = jnp.asarray(mean.reshape(x.shape[1:]), jnp.float32)
    if len(mean) > LARGEST:
        squares = sum(((flat(block) - mean) ** 2).mean(axis=1).sum() for block in blocks)
        return Moments(centre, jnp.asarray(squares / len(x), jnp.float32))
    products = sum(each.T @ each for each in (flat(block) - mean for block in blocks))
    variances, axes = np.linalg.eigh(products / len(x))
    return Moments(centre, jnp.asarray(variances.clip(0), jnp.float32), jnp.asarray(axes, jnp.float32))


def prior(key: Key, shape: tuple[int, ...], sigma: float | Array, moments: Moments | None = None) -> Batch:
    """Draws the start of sampling: N(0, sigma^2 I), sigma the largest noise level.

    With the moments of the data it is N(mean, C + sigma^2 I), C the covariance: the Gaussian with the mean
    and covariance of p_sigma. The first leaves out the data, an error that falls as 1 / sigma. Both are made
    of the same noise. Raises ValueError if the mean has another shape than an event, or if sigma
    is no single number, and TypeError for other moments.
    """
    sigma = jnp.asarray(sigma)
    if sigma.ndim:
        raise ValueError(f"sigma has shape {sigma.shape}; the start has one noise level")
    z = noise.normal(key, shape, jnp.promote_types(sigma.dtype, jnp.float32))
    return from_normal(z, sigma, moments)


def start(key: Key, shape: tuple[int, ...], sigma: float | Array, moments: Moments | None = None) -> Batch:
    """Returns the points [b, *event] at level sigma at which `generate` starts with the same arguments."""
    key = noise.typed(key)
    shape = (len(key), *shape) if key.ndim else shape
    return prior(noise.fold_in(noise.row_keys(key, shape[0]), 0), shape, sigma, moments)


def from_normal(z: Batch, sigma: float | Array, moments: Moments | None = None) -> Batch:
    """Returns mean + (C + sigma^2 I)^(1/2) z, or sigma z without moments: what `prior` makes of normals."""
    if moments is None:
        return sigma * z
    _check(moments, z.shape[1:])
    return moments.mean[None] + _scaled(z, jnp.sqrt(moments.variances + sigma**2), moments)


def to_normal(x: Batch, sigma: float | Array, moments: Moments | None = None) -> Batch:
    """Returns (C + sigma^2 I)^(-1/2) (x - mean), or x / sigma without moments: inverse of `from_normal`."""
    if moments is None:
        return x / sigma
    _check(moments, x.shape[1:])
    return _scaled(x - moments.mean[None], 1 / jnp.sqrt(moments.variances + sigma**2), moments)


def log_prior(x: Batch, sigma: float | Array, moments: Moments | None = None) -> Float[Array, "b"]:
    """Returns the log density of `prior` at x, in nats."""
    z = to_normal(x, sigma, moments).reshape(len(x), -1)
    variances = 0.0 if moments is None else moments.variances
    logs = jnp.broadcast_to(jnp.log(2 * jnp.pi * (variances + jnp.asarray(sigma, x.dtype) ** 2)), z.shape[1:])
    return -jnp.sum(z**2, axis=1) / 2 - jnp.sum(logs) / 2


def isotropic(moments: Moments | None, x: Batch) -> tuple[Float[Array, "1 *event"], Float[Array, ""]]:
    """Returns the mean and the mean variance of the data, in the type of x; 0 and 1 without moments."""
    if moments is None:
        return jnp.zeros((1, *x.shape[1:]), x.dtype), jnp.ones((), x.dtype)
    _check(moments, x.shape[1:])
    return moments.mean[None].astype(x.dtype), jnp.mean(moments.variances).astype(x.dtype)


def _check(moments: Moments, event: tuple[int, ...]) -> None:
    if not isinstance(moments, Moments):
        raise TypeError("moments must be those that samplers.moments(x) returns")
    if moments.mean.shape != event:
        raise ValueError(f"the moments are those of {moments.mean.shape}, and an event has shape {event}")


def _scaled(x: Batch, factors: Array, moments: Moments) -> Batch:
    """Returns x times the factors along the axes of the covariance."""
    if moments.axes is None:
        return factors * x
    axes = moments.axes.astype(x.dtype)
    return ((x.reshape(len(x), -1) @ axes * factors[None]) @ axes.T).reshape(x.shape)

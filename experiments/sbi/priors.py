"""Priors of the tasks, and the few lines that priors and simulators share.

>>> import jax
>>> prior = box(3.0, 5)
>>> prior.draw(jax.random.key(0), 4).shape
(4, 5)
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscore import noise
from jaxscore.types import Array, Key


class Prior(NamedTuple):
    """A distribution of parameters theta [d]."""

    dimension: int
    draw: Callable[[Key, int], Array]
    """draw(key, n) -> theta [n, d]; row i depends on (key, i) alone."""
    log_density: Callable[[Array], Array]
    """log_density(theta[n, d]) -> [n], in nats; -inf outside of the support."""
    bounds: tuple[np.ndarray, np.ndarray] | None
    """Lowest and highest theta [d]; None if the support is the whole space."""


def box(bound: float, d: int) -> Prior:
    """Returns the uniform prior on [-bound, bound]^d."""

    def log_density(theta: Array) -> Array:
        inside = jnp.all(jnp.abs(theta) <= bound, axis=1)
        return jnp.where(inside, -d * math.log(2 * bound), -jnp.inf)

    draw = lambda key, n: uniform(key, (n, d), -bound, bound)
    edge = np.full(d, bound, np.float32)
    return Prior(d, draw, log_density, (-edge, edge))


def gaussian(root: np.ndarray) -> Prior:
    """Returns the prior N(0, (W' W)^-1), where `root` is a triangular matrix W [d, d] with det W > 0."""
    d, log_det, inverse = len(root), np.sum(np.log(np.diag(root))), np.linalg.inv(root)
    draw = lambda key, n: product(noise.normal(key, (n, d)), inverse.T)
    log_density = lambda theta: log_normal(product(theta, root.T), 1.0) + log_det
    return Prior(d, draw, log_density, None)


def uniform(key: Key, shape: tuple[int, ...], low: float, high: float) -> Array:
    """Returns uniform numbers in [low, high); row i depends on the key and on i alone."""
    draw = lambda key: jax.random.uniform(key, shape[1:], minval=low, maxval=high)
    return jax.vmap(draw)(noise.row_keys(key, shape[0]))


def product(x: Array, matrix: np.ndarray) -> Array:
    """Returns x @ matrix in the precision of x; accelerators would round the factors by default."""
    x, matrix = jnp.asarray(x, float), jnp.asarray(matrix, float)
    return jnp.matmul(x, matrix, precision=jax.lax.Precision.HIGHEST)


def log_normal(z: Array, std: float) -> Array:
    """Returns the log density of each row of z under N(0, std^2 I), in nats."""
    return -0.5 * jnp.sum((z / std) ** 2, axis=1) - z.shape[1] * math.log(std * math.sqrt(2 * math.pi))

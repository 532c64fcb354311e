"""The densities, and the lines of models that are compared with their scores."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscore import mixtures
from jaxscore.networks import MLP
from jaxscore.score import from_log_density, preconditioned, preconditioned_log_density


class Family(NamedTuple):
    """Models score(params, x, sigma) on the line params = start + theta direction, theta being a number."""

    score: Callable[[Any, jax.Array, jax.Array], jax.Array]
    start: Any
    direction: Any

    def at(self, theta: jax.Array):
        """Score of the model at theta."""
        step = lambda a, b: a + theta * b
        return partial(self.score, jax.tree.map(step, self.start, self.direction))


def densities() -> dict[str, mixtures.Mixture]:
    """A Gaussian and a mixture of three in the plane, and a correlated Gaussian in ten dimensions."""
    covariances = [[[0.4, 0.2], [0.2, 0.3]], [[0.5, -0.1], [-0.1, 0.2]], [[0.2, 0.0], [0.0, 0.4]]]
    # The correlation of coordinates i and j is 0.6^|i - j|.
    apart = np.abs(np.subtract.outer(np.arange(10), np.arange(10)))
    return {
        "Gaussian": mixtures.isotropic([1.0], [[0.5, -0.5]], 0.8),
        "mixture": mixtures.correlated([0.4, 0.4, 0.2], [[1, 0.5], [-1, 0], [0.5, -1.5]], covariances),
        "correlated 10-D": mixtures.correlated([1.0], np.zeros((1, 10)), 0.6 ** apart[None]),
    }


def families(dimension: int) -> dict[str, Family]:
    """Lines of models: linear fields, residual networks, and gradients of log densities that are networks.

    Linear fields and residual networks need not be the gradient of any log density.
    """
    rng = np.random.default_rng(dimension)
    random = lambda shape, scale: jnp.asarray(scale * rng.standard_normal(shape), jnp.float32)
    network = MLP(width=16, depth=1, embedding=8)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, dimension)), jnp.zeros(1))

    def draw(scale):
        """Random parameters with outputs of order `scale` in all layers; `init` has layers of zeros."""
        gain = lambda leaf: scale / math.sqrt(math.prod(leaf.shape[:-1]))
        return jax.tree.map(lambda leaf: random(leaf.shape, gain(leaf)), shapes)

    energy = preconditioned_log_density(network.apply, 1.0)
    of_energy = lambda params, x, sigma: from_log_density(partial(energy, params))(x, sigma)
    linear = lambda params, x, sigma: -(x - params["mean"][None]) @ params["matrix"]
    line = lambda scale: {
        "matrix": random((dimension, dimension), scale / math.sqrt(dimension)),
        "mean": random((dimension,), scale),
    }
    start = line(0.3)
    start["matrix"] += jnp.eye(dimension)
    return {
        "linear": Family(linear, start, line(0.3)),
        "network": Family(preconditioned(network.apply, 1.0), draw(1.3), draw(0.5)),
        "energy": Family(of_energy, draw(0.5), draw(0.25)),
    }


PAIRS = {
    "Gaussian, linear field": ("Gaussian", "linear"),
    "Gaussian, network": ("Gaussian", "network"),
    "mixture, network": ("mixture", "network"),
    "mixture, energy": ("mixture", "energy"),
    "10-D, linear field": ("correlated 10-D", "linear"),
    "10-D, network": ("correlated 10-D", "network"),
}
"""Titles of the rows, with their density and their family of models."""

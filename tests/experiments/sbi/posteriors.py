"""Posteriors of the tasks by methods that do not know the published draws: weighted points, and a comparison.

The points are those of a lattice, or proposals of importance sampling. Their weights are the prior times the
likelihood of the task, over the density of the proposals.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.sbi.tasks import TASKS


class Weighted(NamedTuple):
    """Points theta [n, d] of a posterior, and their weights [n], whose sum is 1."""

    theta: np.ndarray
    weights: np.ndarray

    @property
    def size(self):
        """Effective sample size, (sum w)^2 / sum w^2."""
        return 1 / np.sum(self.weights**2)


def log_joint(name, theta, y):
    found = TASKS[name].log_prior(theta) + TASKS[name].log_likelihood(theta, y)
    return np.asarray(found, float)


def weighted(name, theta, y, log_proposal=0.0):
    log_w = log_joint(name, theta, y) - log_proposal
    w = np.exp(log_w - log_w.max())
    some = w > 1e-9
    return Weighted(np.asarray(theta, float)[some], w[some] / w[some].sum())


def lattice(name, y, n=1_000_000, reach=6.0):
    """Points that fill the box near y evenly."""
    low, high = np.clip(np.stack([y - reach, y + reach]), *TASKS[name].bounds)
    return weighted(name, low + (high - low) * even(n), y)


def even(n):
    """Points that fill the unit square evenly: multiples of two irrational numbers, modulo 1."""
    return np.arange(n)[:, None] * [0.7548776662466927, 0.5698402909980532] % 1  # 1 / g, 1 / g^2; g^3 = g + 1


def gaussian_linear(y, n=40_000):
    """Draws of the exact posterior, N(y / 2, 0.05 I): all weights must be equal."""
    z = np.random.default_rng(0).standard_normal((n, 10))
    return weighted("gaussian_linear", y / 2 + np.sqrt(0.05) * z, y, -0.5 * np.sum(z**2, axis=1))


def slcp(y, n=1_000_000):
    """Proposals: theta3..5 from the prior, and theta1..2 from their Gaussian given these and the points."""
    rng = np.random.default_rng(0)
    shape, z = rng.uniform(-3, 3, (n, 3)), rng.standard_normal((n, 2))
    s1, s2, r = shape[:, 0] ** 2, shape[:, 1] ** 2, np.tanh(shape[:, 2])
    own = np.stack([s1 * z[:, 0], s2 * (r * z[:, 0] + np.sqrt(1 - r**2) * z[:, 1])], axis=1)
    theta = np.concatenate([y.reshape(4, 2).mean(axis=0) + own / 2, shape], axis=1)
    log_q = -0.5 * np.sum(z**2, axis=1) - np.log(s1 * s2 * np.sqrt(1 - r**2))
    return weighted("slcp", theta, y, log_q)


def bernoulli_glm(y, n=40_000, freedom=8):
    """Proposals: Student's t around the maximum, with the curvature of the log density there."""
    name, d = "bernoulli_glm", 10
    value = lambda t: (TASKS[name].log_prior(t[None]) + TASKS[name].log_likelihood(t[None], y))[0]
    slope, curvature = jax.jit(jax.grad(value)), jax.jit(jax.hessian(value))
    mode = jnp.zeros(d)
    for _ in range(15):  # Newton's method: the log density is concave
        mode = mode - jnp.linalg.solve(curvature(mode), slope(mode))
    root = np.linalg.cholesky(np.linalg.inv(-np.asarray(curvature(mode), float)))
    rng = np.random.default_rng(0)
    z = rng.standard_normal((n, d)) / np.sqrt(rng.chisquare(freedom, (n, 1)) / freedom)
    log_q = -0.5 * (freedom + d) * np.log1p(np.sum(z**2, axis=1) / freedom)
    return weighted(name, np.asarray(mode, float) + z @ root.T, y, log_q)


def distance(draws, values, weights):
    """The largest distance of the CDF of draws from that of weighted values (Kolmogorov and Smirnov)."""
    order = np.argsort(values)
    cdf = np.concatenate([[0.0], np.cumsum(weights[order])])
    draws = np.sort(draws)
    sides = [cdf[np.searchsorted(values[order], draws, side)] for side in ("left", "right")]
    steps = np.arange(len(draws) + 1) / len(draws)
    return max(np.max(sides[0] - steps[:-1]), np.max(steps[1:] - sides[1]))


def posterior(name, y):
    ways = {"gaussian_linear": gaussian_linear, "slcp": slcp, "bernoulli_glm": bernoulli_glm}
    return ways.get(name, partial(lattice, name))(y.astype(float))


def distances(name, reference, points):
    """The distance of each parameter and of the log density, in units of 1 / sqrt(n).

    n is m k / (m + k) for m draws and an effective sample size k; points of a lattice have no noise.
    """
    n, noisy = len(reference.draws), TASKS[name].bounds is None or name == "slcp"
    n = n * points.size / (n + points.size) if noisy else n
    own = lambda theta: [*theta.T, log_joint(name, theta, reference.observation)]
    pairs = zip(own(reference.draws), own(points.theta), strict=True)
    return [np.sqrt(n) * distance(draws, values, points.weights) for draws, values in pairs]

"""Standard tasks of simulation-based inference: priors, simulators and likelihoods in closed form.

    two_moons           theta [2]     y [2]     two crescents; two modes
    gaussian_linear     theta [10]    y [10]    the mean of a Gaussian; the posterior is Gaussian
    gaussian_mixture    theta [2]     y [2]     the common mean of a wide and a narrow Gaussian
    slcp                theta [5]     y [8]     four points of a Gaussian in the plane; four modes
    bernoulli_glm       theta [10]    y [10]    a filter of a stimulus, from statistics of a spike train

Functions of a task take and return rows, and work under jit. Row i depends on (key, i) alone. Source:
Lueckmann et al. 2021, "Benchmarking simulation-based inference", appendix T.

>>> import jax
>>> theta, y = joint(jax.random.key(0), TASKS["slcp"], 4)
>>> theta.shape, y.shape, TASKS["slcp"].log_likelihood(theta, y).shape
((4, 5), (4, 8), (4,))
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments.sbi.priors import Prior, box, gaussian, log_normal, product, uniform
from jaxscore import noise
from jaxscore.types import AnyArray, Array, Key

Theta = Float[AnyArray, "n d"]
"""Parameters, one row for each simulation."""

Data = Float[AnyArray, "n m"]
"""Results of the simulator, one row for each simulation."""


class Task(NamedTuple):
    """A prior, a simulator and their log densities in nats."""

    name: str
    n_parameters: int
    """Dimension d of theta."""
    n_data: int
    """Dimension m of y."""
    draw: Callable[[Key, int], Array]
    """draw(key, n) -> theta [n, d], from the prior."""
    simulate: Callable[[Key, Theta], Array]
    """simulate(key, theta[n, d]) -> y [n, m]. Raises ValueError for parameters of another dimension."""
    log_prior: Callable[[Theta], Array]
    """log_prior(theta[n, d]) -> [n]; -inf outside of the support."""
    log_likelihood: Callable[[Theta, Data], Array]
    """log_likelihood(theta[n, d], y) -> [n], for a row of y for each row of theta, or for one y [m].

    Raises ValueError for data of another shape.
    """
    bounds: tuple[np.ndarray, np.ndarray] | None
    """Lowest and highest theta [d] of a uniform prior; None if the prior is a Gaussian."""
    points: int = 1
    """y is so many points of m / points numbers, one after the other, independent and alike given theta."""


def joint(key: Key, task: Task, n: int) -> tuple[Array, Array]:
    """Returns n draws theta [n, d] of the prior and a simulation y [n, m] for each."""
    rows = noise.row_keys(key, n)
    theta = task.draw(noise.fold_in(rows, 0), n)
    return theta, task.simulate(noise.fold_in(rows, 1), theta)


# Two moons ----------------------------------------------------------------------------------------

RADIUS, RADIUS_STD, OFFSET = 0.1, 0.01, 0.25


def _two_moons(rows: Key, theta: Array) -> Array:
    """y = fold(theta) + (r cos a + 0.25, r sin a), r ~ N(0.1, 0.01^2), a uniform on [-pi/2, pi/2]."""
    angle = uniform(noise.fold_in(rows, 0), (len(theta),), -math.pi / 2, math.pi / 2)
    r = RADIUS + RADIUS_STD * noise.normal(noise.fold_in(rows, 1), (len(theta),))
    return _fold(theta) + jnp.stack([r * jnp.cos(angle) + OFFSET, r * jnp.sin(angle)], axis=1)


def _two_moons_log_likelihood(theta: Array, y: Array) -> Array:
    """log N(r; 0.1, 0.01^2) - log(pi r), where (u, v) = y - fold(theta) - (0.25, 0) has length r and u >= 0.

    The density of (r, a) is divided by r, the Jacobian of polar coordinates. A negative r, ten standard
    deviations from its mean, is left out. Rounding may make u slightly negative: -1e-6 counts as 0.
    """
    u, v = (y - _fold(theta)).T
    u = u - OFFSET
    r = jnp.sqrt(u**2 + v**2 + 1e-12)  # the gradient is finite at r = 0 too
    log_p = log_normal((r - RADIUS)[:, None], RADIUS_STD) - jnp.log(math.pi * r)
    return jnp.where(u >= -1e-6, log_p, -jnp.inf)


def _fold(theta: Array) -> Array:
    """(-|theta1 + theta2|, theta2 - theta1) / sqrt(2): two points on either side of a line have one image."""
    return jnp.stack([-jnp.abs(theta[:, 0] + theta[:, 1]), theta[:, 1] - theta[:, 0]], axis=1) / math.sqrt(2)


# Gaussian linear and Gaussian mixture -------------------------------------------------------------

LINEAR_STD = math.sqrt(0.1)
"""Standard deviation of the prior and of the noise: both variances are 0.1."""

WIDE, NARROW = 1.0, 0.1
"""Standard deviations of the two components of the Gaussian mixture, which have weight 1/2 each."""


def _gaussian_linear(rows: Key, theta: Array) -> Array:
    """y = theta + n, n ~ N(0, 0.1 I)."""
    return theta + LINEAR_STD * noise.normal(rows, theta.shape)


def _gaussian_linear_log_likelihood(theta: Array, y: Array) -> Array:
    return log_normal(y - theta, LINEAR_STD)


def _gaussian_mixture(rows: Key, theta: Array) -> Array:
    """y = theta + s n, n ~ N(0, I), where s is 1 or 0.1 with equal probability."""
    wide = jax.vmap(jax.random.bernoulli)(noise.fold_in(rows, 0))
    std = jnp.where(wide, WIDE, NARROW)[:, None]
    return theta + std * noise.normal(noise.fold_in(rows, 1), theta.shape)


def _gaussian_mixture_log_likelihood(theta: Array, y: Array) -> Array:
    wide, narrow = (log_normal(y - theta, std) for std in (WIDE, NARROW))
    return jnp.logaddexp(wide, narrow) - math.log(2)


# SLCP: simple likelihood, complex posterior -------------------------------------------------------

JITTER = 1e-6
"""Variance that the published simulator adds to each coordinate, so that a variance is never 0."""


def _slcp(rows: Key, theta: Array) -> Array:
    """Four points from N((theta1, theta2), S) in the plane; see `_slcp_root` for S."""
    first, slope, second = (each[:, None] for each in _slcp_root(theta))
    z = noise.normal(rows, (len(theta), 4, 2))
    x = theta[:, :1] + first * z[..., 0]
    return jnp.stack([x, theta[:, 1:2] + slope * z[..., 0] + second * z[..., 1]], axis=2).reshape(-1, 8)


def _slcp_log_likelihood(theta: Array, y: Array) -> Array:
    first, slope, second = (each[:, None] for each in _slcp_root(theta))
    points = y.reshape(-1, 4, 2) - theta[:, None, :2]
    z = points[..., 0] / first
    z = jnp.concatenate([z, (points[..., 1] - slope * z) / second], axis=1)
    return log_normal(z, 1.0) - 4 * jnp.log(first * second)[:, 0]


def _slcp_root(theta: Array) -> tuple[Array, Array, Array]:
    """Returns a, b, c [n] of the root [[a, 0], [b, c]] of the covariance S.

    S has variances s1^2 and s2^2 and correlation r, where s1 = theta3^2, s2 = theta4^2, r = tanh theta5.
    1 - r^2 = 1 / cosh^2 loses no digits, so c is not rounded to 0.
    """
    v1, v2 = theta[:, 2] ** 4, theta[:, 3] ** 4
    first = jnp.sqrt(v1 + JITTER)
    slope = jnp.tanh(theta[:, 4]) * theta[:, 2] ** 2 * theta[:, 3] ** 2 / first
    free = (v1 / jnp.cosh(theta[:, 4]) ** 2 + JITTER) / (v1 + JITTER)
    return first, slope, jnp.sqrt(v2 * free + JITTER)


# Bernoulli GLM ------------------------------------------------------------------------------------

BINS, LAGS = 100, 9


def design() -> Float[np.ndarray, "100 10"]:
    """Returns the design matrix X: a column of ones, and the stimulus delayed by 0..8 time bins.

    The stimulus is white noise, which is 0 before the first bin. It is part of the task: the published
    stimulus has the numbers of NumPy's frozen generator RandomState with seed 42.
    """
    stimulus = np.random.RandomState(42).randn(BINS)
    delayed = [np.concatenate([np.zeros(lag), stimulus[: BINS - lag]]) for lag in range(LAGS)]
    return np.stack([np.ones(BINS), *delayed], axis=1).astype(np.float32)


DESIGN = design()


def _smoothness() -> np.ndarray:
    """Returns the triangular W of the prior: the bias is N(0, 2), and F filter is N(0, I).

    F takes second differences, and adds sqrt(lag / 9) to its diagonal: F[i, i] = 1 + sqrt(i / 9),
    F[i, i - 1] = -2, F[i, i - 2] = 1.
    """
    differences = np.eye(LAGS) - 2 * np.eye(LAGS, k=-1) + np.eye(LAGS, k=-2)
    root = np.zeros((LAGS + 1, LAGS + 1))
    root[0, 0] = math.sqrt(0.5)
    root[1:, 1:] = differences + np.diag(np.sqrt(np.arange(LAGS) / LAGS))
    return root


def _bernoulli_glm(rows: Key, theta: Array) -> Array:
    """y = X' spikes, where a bin has a spike with probability sigmoid(X theta): the sufficient statistics.

    y is the number of spikes, and the sum of the delayed stimuli over all spikes for each delay.
    """
    chance = jax.nn.sigmoid(product(theta, DESIGN.T))
    spikes = uniform(rows, chance.shape, 0.0, 1.0) < chance
    return product(spikes.astype(theta.dtype), DESIGN)


def _bernoulli_glm_log_likelihood(theta: Array, y: Array) -> Array:
    """theta' y - sum log(1 + exp(X theta)): the log probability of a train of spikes whose statistics are y.

    Real stimuli give other statistics to every train, so this is also the log probability of y.
    """
    return jnp.sum(theta * y, axis=1) - jnp.sum(jax.nn.softplus(product(theta, DESIGN.T)), axis=1)


# The tasks ----------------------------------------------------------------------------------------


def _task(name: str, prior: Prior, m: int, simulate: Callable, log_likelihood: Callable) -> Task:
    """Returns the task; its functions check shapes, because wrong ones would be broadcast."""
    d = prior.dimension

    def points(theta: Theta) -> Array:
        theta = jnp.asarray(theta, float)
        if theta.ndim != 2 or theta.shape[1] != d:
            raise ValueError(f"theta has shape {theta.shape}; parameters of {name} are [n, {d}]")
        return theta

    def log_likelihood_of(theta: Theta, y: Data) -> Array:
        theta, y = points(theta), jnp.asarray(y, float)
        if y.shape not in ((m,), (len(theta), m)):
            need = f"data of {name} are [{m}], or [{len(theta)}, {m}] for {len(theta)} rows of theta"
            raise ValueError(f"y has shape {y.shape}; {need}")
        return log_likelihood(theta, jnp.broadcast_to(y, (len(theta), m)))

    run = lambda key, theta: simulate(noise.row_keys(key, len(theta)), points(theta))
    log_prior = lambda theta: prior.log_density(points(theta))
    return Task(name, d, m, prior.draw, run, log_prior, log_likelihood_of, prior.bounds)


_LINEAR = gaussian(np.eye(10) / LINEAR_STD)

_ALL = (
    _task("two_moons", box(1.0, 2), 2, _two_moons, _two_moons_log_likelihood),
    _task("gaussian_linear", _LINEAR, 10, _gaussian_linear, _gaussian_linear_log_likelihood),
    _task("gaussian_mixture", box(10.0, 2), 2, _gaussian_mixture, _gaussian_mixture_log_likelihood),
    _task("slcp", box(3.0, 5), 8, _slcp, _slcp_log_likelihood)._replace(points=4),
    _task("bernoulli_glm", gaussian(_smoothness()), 10, _bernoulli_glm, _bernoulli_glm_log_likelihood),
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}
"""All tasks by name."""

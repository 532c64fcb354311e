"""Gaussian mixtures: log density, score and draws at any noise level, in closed form.

A mixture with noise N(0, sigma^2 I) added is a mixture again, so the exact score of p_sigma is known.
Mixtures serve as toy data, and as the reference for what is learnt or sampled.

>>> import functools, jax, jax.numpy as jnp
>>> mixture = two_modes()
>>> x = draw(jax.random.key(0), mixture, 100, sigma=0.5)
>>> exact = functools.partial(score, mixture)            # a score like any other
>>> exact(x, jnp.full(100, 0.5)).shape
(100, 2)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxscore import noise
from jaxscore.types import Array, Key, Sigma, per_row


class Mixture(NamedTuple):
    """sum_k weights[k] N(means[k], axes[k] diag(variances[k]) axes[k]'), in d dimensions.

    All components may have the axes of one matrix, [1, d, d], or those of the coordinates, None. A component
    has one variance for all axes if variances are [k, 1]. All of these are much cheaper in many dimensions.
    """

    weights: Float[Array, "k"]
    means: Float[Array, "k d"]
    variances: Float[Array, "k #d"]
    axes: Float[Array, "#k d d"] | None = None


def isotropic(weights, means, std) -> Mixture:
    """The mixture of N(means[k], std^2 I). `std` is one number, or one per component.

    The weights are normalised.

    Raises:
        ValueError: if a weight or a std is not positive, or if the shapes do not fit.
    """
    weights, means = _components(weights, means)
    std = jnp.broadcast_to(jnp.asarray(std, float), weights.shape)
    if weights.min() <= 0 or std.min() <= 0:
        raise ValueError(f"weights {weights} and std {std} must be positive")
    return Mixture(weights / weights.sum(), means, std[:, None] ** 2)


def _components(weights, means) -> tuple[Float[Array, "k"], Float[Array, "k d"]]:
    weights, means = jnp.asarray(weights, float), jnp.asarray(means, float)
    if means.ndim != 2 or weights.shape != means.shape[:1]:
        need = "they must be [k] and [k, d]"
        raise ValueError(f"weights have shape {weights.shape}, and means have shape {means.shape}; {need}")
    return weights, means


def correlated(weights, means, covariances) -> Mixture:
    """The mixture of N(means[k], covariances[k]), with covariances of shape [k, d, d].

    The weights are normalised.

    Raises:
        ValueError: if a weight is not positive, if a covariance is not symmetric and positive definite, or if
            the shapes do not fit.
    """
    weights, means = _components(weights, means)
    covariances = jnp.asarray(covariances, float)
    if not jnp.allclose(covariances, covariances.mT, rtol=1e-4):
        raise ValueError(f"covariances {covariances} must be symmetric")
    variances, axes = jnp.linalg.eigh(covariances)
    if weights.min() <= 0 or variances.min() <= 0:
        raise ValueError(f"weights {weights} and variances {variances} must be positive")
    return Mixture(weights / weights.sum(), means, variances, axes)


def two_modes(*, weight: float = 0.8, distance: float = 8.0, std: float = 0.5) -> Mixture:
    """Two modes far apart on the diagonal of the plane, with weights `weight` and 1 - weight.

    Langevin dynamics at a small noise level never crosses from one to the other: the example of Song & Ermon
    2019, section 3.2.2.
    """
    half = distance / 2 / jnp.sqrt(2.0)
    return isotropic([weight, 1 - weight], [[half, half], [-half, -half]], std)


def ring(*, modes: int = 8, radius: float = 4.0, std: float = 0.3) -> Mixture:
    """Equal modes, evenly spaced on a circle in the plane."""
    angle = 2 * jnp.pi * jnp.arange(modes) / modes
    means = radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    return isotropic(jnp.ones(modes), means, std)


def grid25(*, spacing: float = 2.0, std: float = 0.05) -> Mixture:
    """25 equal modes on a 5 x 5 grid, the benchmark of mode coverage (Dumoulin et al. 2017)."""
    line = spacing * jnp.arange(-2.0, 3.0)
    means = jnp.stack(jnp.meshgrid(line, line, indexing="ij"), axis=-1).reshape(25, 2)
    return isotropic(jnp.ones(25), means, std)


def log_density(mixture: Mixture, x: Float[Array, "b d"], sigma: Sigma) -> Float[Array, "b"]:
    """log p_sigma(x) in nats, where p_sigma is the mixture convolved with N(0, sigma^2 I)."""
    return jax.nn.logsumexp(_log_joint(mixture, x, sigma), axis=1)


def score(mixture: Mixture, x: Float[Array, "b d"], sigma: Sigma) -> Float[Array, "b d"]:
    """grad_x log p_sigma(x) = sum_k r_k(x) (C_k + sigma^2 I)^-1 (m_k - x), with responsibilities r_k."""
    offsets, variances = _whitened(mixture, x, sigma)
    r = responsibilities(mixture, x, sigma)[..., None] / variances
    if mixture.axes is None and variances.shape[2] == 1:
        return r[..., 0] @ mixture.means - r.sum(axis=1) * x
    pull = -r * offsets
    if mixture.axes is None or len(mixture.axes) == 1:  # the sum first: one rotation, not k
        pull = pull.sum(axis=1, keepdims=True)
    return _turned(mixture, pull, back=True).sum(axis=1)


def responsibilities(mixture: Mixture, x: Float[Array, "b d"], sigma: Sigma) -> Float[Array, "b k"]:
    """p(component k | x) under p_sigma."""
    return jax.nn.softmax(_log_joint(mixture, x, sigma), axis=1)


def draw(key: Key, mixture: Mixture, n: int, *, sigma: float | Array = 0.0) -> Float[Array, "n d"]:
    """n draws from p_sigma; draw i depends on (key, i) alone."""
    keys = noise.row_keys(key, n)
    pick = lambda key: jax.random.categorical(key, jnp.log(mixture.weights))
    k = jax.vmap(pick)(noise.fold_in(keys, 0))
    spread = jnp.broadcast_to(jnp.sqrt(mixture.variances[k] + sigma**2), mixture.means[k].shape)
    offsets = spread * noise.normal(noise.fold_in(keys, 1), spread.shape)
    if mixture.axes is not None and len(mixture.axes) > 1:
        return mixture.means[k] + jnp.einsum("bij,bj->bi", mixture.axes[k], offsets)
    return mixture.means[k] + _turned(mixture, offsets[:, None], back=True)[:, 0]


def moments(mixture: Mixture, *, sigma: float | Array = 0.0) -> tuple[Float[Array, "d"], Float[Array, "d d"]]:
    """Mean and covariance of p_sigma."""
    mean = mixture.weights @ mixture.means
    within = jnp.einsum("k,kil->il", mixture.weights, covariances(mixture))
    offsets = mixture.means - mean[None]
    between = jnp.einsum("k,ki,kj->ij", mixture.weights, offsets, offsets)
    return mean, within + between + sigma**2 * jnp.eye(len(mean))


def covariances(mixture: Mixture) -> Float[Array, "k d d"]:
    """The covariances axes[k] diag(variances[k]) axes[k]' of the components."""
    k, d = mixture.means.shape
    axes = jnp.eye(d)[None] if mixture.axes is None else mixture.axes
    axes, variances = jnp.broadcast_to(axes, (k, d, d)), jnp.broadcast_to(mixture.variances, (k, d))
    return jnp.einsum("kij,kj,klj->kil", axes, variances, axes)


def mode_weights(mixture: Mixture, x: Float[Array, "b d"]) -> Float[Array, "k"]:
    """Fraction of the points x whose most probable component (at sigma = 0) is k; NaN if a point is NaN."""
    joint = _log_joint(mixture, x, jnp.zeros(len(x)))
    owner: Int[Array, b] = jnp.argmax(joint, axis=1)
    fractions = jnp.bincount(owner, length=len(mixture.weights)) / len(x)
    return jnp.where(jnp.isnan(joint).any(), jnp.nan, fractions)


def _whitened(mixture: Mixture, x: Array, sigma: Sigma) -> tuple[Array, Array]:
    """Offsets from every mean along the axes of every component, [b, k, d], and the variances along them."""
    dimension = mixture.means.shape[1]
    if x.ndim != 2 or x.shape[1] != dimension:
        raise ValueError(f"x has shape {x.shape}; points of this mixture are [b, {dimension}]")
    sigma = per_row(sigma, x)
    points, means = x[:, None, :], mixture.means[None]
    if mixture.axes is not None and len(mixture.axes) == 1:  # of x and the means, not of all b k offsets
        offsets = _turned(mixture, points) - _turned(mixture, means)
    else:
        offsets = _turned(mixture, points - means)
    return offsets, mixture.variances[None] + sigma[:, None, None] ** 2


def _turned(mixture: Mixture, v: Array, *, back: bool = False) -> Array:
    """Components of v[b, k, d] along the axes, axes[k]' v; or `back` from these components to v."""
    if mixture.axes is None:
        return v
    if len(mixture.axes) == 1:
        return v @ (mixture.axes[0].T if back else mixture.axes[0])
    return jnp.einsum("kij,bkj->bki" if back else "kij,bki->bkj", mixture.axes, v)


def _log_joint(mixture: Mixture, x: Array, sigma: Sigma) -> Float[Array, "b k"]:
    """log weights[k] + log N(x; m_k, C_k + sigma^2 I)."""
    offsets, variances = _whitened(mixture, x, sigma)
    logs = jnp.sum(jnp.broadcast_to(jnp.log(2 * jnp.pi * variances), offsets.shape), axis=2)
    log_normal = -0.5 * (jnp.sum(offsets**2 / variances, axis=2) + logs)
    return jnp.log(mixture.weights)[None] + log_normal

"""The log density along the probability flow, and the flow as an encoder."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Num

from jaxscore import noise
from jaxscore.objectives.matching import trace
from jaxscore.samplers.adaptive import Solution, require_range, solve
from jaxscore.samplers.prior import Moments, from_normal, isotropic, log_prior, to_normal
from jaxscore.types import AnyArray, Array, Key, ScoreFn, right, shaped, wide

Batch = Float[Array, "b *event"]


class LogDensity(NamedTuple):
    """An estimate of log p for each example."""

    value: Float[Array, "b"]
    """The log density, in nats; NaN where the solver has not arrived within `max_steps`."""
    standard_error: Float[Array, "b"]
    """Standard error of the value, from the differences between probes: 0 if exact, NaN for one probe."""
    evaluations: Int[Array, "b"]
    """How often the score was needed. Each time a derivative along each probe was needed too."""


def log_density(
    score: ScoreFn,
    key: Key,
    x: Num[AnyArray, "b *event"],
    *,
    sigma_min: float,
    sigma_max: float,
    probes: int | None = 8,
    moments: Moments | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    max_steps: int = 1000,
) -> LogDensity:
    """Returns log p(x) at level sigma_min, by the change of variables along the probability flow.

        log p(x) = log N(x'; prior) + int_{sigma_min}^{sigma_max} div f dsigma,    f = -sigma s(x, sigma)

    x' is x at sigma_max, taken there along dx / dsigma = f. The divergence is -sigma tr ds/dx. Its trace is
    exact, or the mean of v' (ds/dx) v over K random probes v, which stay the same along the trajectory. What
    is solved for is u = (x - mean) / sqrt(v), v = sigma^2 + the variance of the data, and the divergence that
    a Gaussian with this variance does not have: both stay of order 1, and change little at large sigma.

    The solver is that of `samplers.adaptive`; every row has its own steps, so its result does not depend on
    the others. Row i depends on (key, i) alone. Noise levels and tolerances are Python numbers, inside jit
    too. Derivatives of the result are forward-mode only (jax.jvp, jax.jacfwd).

    Args:
        score: the score, with parameters and condition bound.
        key: one key, or an array of keys, one for each row; for the probes.
        x: examples, as numbers with a density: grey values need `dequantise` first.
        sigma_min: level at which p is evaluated: far below the details of the data, and not below the levels
            that the score was trained at.
        sigma_max: level at which the density is that of `samplers.prior`.
        probes: number of probes, K; None for the exact trace, by D derivatives. With K >= D it is exact too.
            One probe has no standard error: it is NaN.
        moments: of the data, for the density at sigma_max; see `samplers.prior`.
        rtol, atol: tolerances of u, and of log p in nats.
        max_steps: after which a row ends as NaN.

    Raises:
        ValueError: for noise levels, tolerances or probes that cannot be, and for x that has integers or is
            known not to be finite.
        ImportError: without diffrax.

    Source: Song et al. 2021, equation 39; Grathwohl et al. 2019 (probes).
    """
    require_range(sigma_min, sigma_max)
    require_density(x)
    if probes is not None and probes < 1:
        raise ValueError(f"probes = {probes} must be at least 1, or None for the exact trace")
    x, size = wide(x), math.prod(x.shape[1:])
    keys = noise.row_keys(key, len(x))
    probes = None if probes is not None and probes >= size else probes
    flow = _Flow(shaped(score), *isotropic(moments, x))
    vectors = None if probes is None else _probes(keys, x, probes)

    def field(state: tuple[Array, Array], sigma: Array) -> tuple[Array, Array]:
        u, slope = state[0], partial(flow.slope, sigma=sigma)
        if vectors is None:
            return slope(u), trace(slope, u, 64)[:, None]
        along = lambda v: jax.jvp(slope, (u,), (v,))
        moves, products = jax.vmap(along, in_axes=1, out_axes=(None, 1))(vectors)
        return moves, jnp.sum((vectors * products).reshape(*vectors.shape[:2], -1), axis=2)

    state = flow.u(x, sigma_min), jnp.zeros((len(x), probes or 1), x.dtype)
    given = {"rtol": rtol, "atol": atol, "max_steps": max_steps}
    (u, integral), evaluations = solve(field, state, sigma_min, sigma_max, **given)
    gaussian = size * jnp.log(flow.scale(sigma_max) / flow.scale(sigma_min))
    value = log_prior(flow.x(u, sigma_max), sigma_max, moments) + gaussian + integral.mean(axis=1)
    deviation = jnp.zeros_like(value) if probes is None else jnp.std(integral, axis=1, ddof=1)
    return LogDensity(value, deviation / math.sqrt(probes or 1), evaluations)


def encode(
    score: ScoreFn,
    x: Batch,
    *,
    sigma_min: float,
    sigma_max: float,
    moments: Moments | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    max_steps: int = 1000,
) -> Solution:
    """Returns latents z of examples x: N(0, I), if the score is that of the examples.

    The flow takes x from sigma_min to sigma_max, where z = (C + sigma_max^2 I)^(-1/2) (x - mean) with the
    moments of the data, and x / sigma_max without. `decode` is its inverse. Arguments and errors are those of
    `log_density`. Source: Song et al. 2021, section D.5.
    """
    require_range(sigma_min, sigma_max)
    given = {"rtol": rtol, "atol": atol, "max_steps": max_steps}
    end, evaluations = _carried(score, wide(x), sigma_min, sigma_max, moments, given)
    return Solution(to_normal(end, sigma_max, moments), evaluations)


def decode(
    score: ScoreFn,
    z: Batch,
    *,
    sigma_min: float,
    sigma_max: float,
    moments: Moments | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    max_steps: int = 1000,
) -> Solution:
    """Returns the examples of latents z, at level sigma_min: the inverse of `encode`.

    With z ~ N(0, I) they are samples. Arguments and errors are those of `log_density`.
    """
    require_range(sigma_min, sigma_max)
    given = {"rtol": rtol, "atol": atol, "max_steps": max_steps}
    return _carried(score, from_normal(wide(z), sigma_max, moments), sigma_max, sigma_min, moments, given)


def interpolate(first: Array, second: Array, fraction: float | Array) -> Array:
    """Returns latents on the way from `first`, at fraction 0, to `second`, at fraction 1, row by row.

        direction: along the great circle from z_1 / |z_1| to z_2 / |z_2|, by the fraction w of its length
        |z|^2 = (1 - w) |z_1|^2 + w |z_2|^2

    The mean of |z|^2 stays that of N(0, I); the straight line would go through smaller |z|. Each argument has
    a row for each latent, or one for all.

    Source: Shoemake 1985 (directions); White 2016.

    Raises ValueError if the latents have other shapes, or the numbers of rows do not fit.
    """
    w = jnp.atleast_1d(jnp.asarray(fraction, jnp.float32))
    lengths = {len(first), len(second), len(w)} - {1}
    if first.shape[1:] != second.shape[1:] or w.ndim > 1 or len(lengths) > 1:
        shapes = f"{first.shape} and {second.shape}, with fractions {w.shape}"
        raise ValueError(f"latents of shapes {shapes} do not fit: give as many rows of each, or one")
    n = max(lengths, default=1)
    rows = lambda z: jnp.broadcast_to(wide(z).reshape(len(z), -1), (n, math.prod(z.shape[1:])))
    size = lambda z: jnp.linalg.norm(z, axis=1, keepdims=True)
    a, b, w = rows(first), rows(second), jnp.broadcast_to(w, (n,))[:, None]
    unit = lambda z: z / jnp.maximum(size(z), 1e-20)
    along, across = unit(a) + unit(b), unit(b) - unit(a)
    turn = (w - 0.5) * 2 * jnp.arctan2(size(across), size(along))  # from the middle of both directions
    direction = unit(jnp.cos(turn) * unit(along) + jnp.sin(turn) * unit(across))
    direction = jnp.where(size(direction) < 0.5, unit(b), direction)  # half way between opposite latents
    length = jnp.sqrt((1 - w) * size(a) ** 2 + w * size(b) ** 2)
    return (length * direction).reshape(n, *first.shape[1:])


# Helpers --------------------------------------------------------------------------------------


def require_density(x: Array) -> None:
    """Raises ValueError if x has integers, or no numbers at all."""
    if x.size == 0:
        raise ValueError(f"x has shape {x.shape}; at least one row and one number are needed")
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise ValueError(f"x has {x.dtype}, which has no density: add noise to grey values by dequantise")


class _Flow(NamedTuple):
    """The probability flow of u = (x - mean) / sqrt(v), v = sigma^2 + variance."""

    score: ScoreFn
    mean: Float[Array, "1 *event"]
    variance: Float[Array, ""]

    def scale(self, sigma: Array | float) -> Array:
        return jnp.sqrt(sigma**2 + self.variance)

    def u(self, x: Array, sigma: float) -> Array:
        return (x - self.mean) / self.scale(sigma)

    def x(self, u: Array, sigma: float) -> Array:
        return self.mean + self.scale(sigma) * u

    def slope(self, u: Array, sigma: Array) -> Array:
        """du / d ln sigma = -sigma^2 (sqrt(v) s + u) / v: zero if the data are N(mean, variance I)."""
        root = right(self.scale(sigma), u)
        return -((right(sigma, u) / root) ** 2) * (root * self.score(self.mean + root * u, sigma) + u)


def _probes(keys: Key, x: Array, probes: int) -> Float[Array, "b k *event"]:
    draw = lambda number: noise.rademacher(noise.fold_in(keys, number), x.shape).astype(x.dtype)
    return jnp.moveaxis(jax.vmap(draw)(jnp.arange(probes)), 0, 1)


def _carried(
    score: ScoreFn, x: Array, start: float, end: float, moments: Moments | None, given: dict[str, Any]
) -> Solution:
    """Takes x along the probability flow from one level to the other, solved for u as in `log_density`."""
    flow = _Flow(shaped(score), *isotropic(moments, x))
    found = solve(flow.slope, flow.u(x, start), start, end, **given)
    return Solution(flow.x(found.x, end), found.evaluations)

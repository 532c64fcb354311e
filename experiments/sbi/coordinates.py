"""Coordinates for training: reversible maps of parameters and data to a scale of about 1.

    standardised(x)        x -> (x - mean) / std by column, measured on training simulations
    bounded(low, high)     a box -> the whole space, so that a uniform prior becomes N(0, I)
    chain(a, b)            first a, then b

A density changes by the determinant: log p(x) = log q(encode(x)) + log_det(x), where q is the density of
encoded rows.

>>> inside = bounded(np.array([0.0]), np.array([1.0]))
>>> np.asarray(inside.encode(jnp.array([[0.5], [0.975]])), float).round(2).tolist()
[[0.0], [1.96]]
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Float

from jaxscore.types import AnyArray, Array

Rows = Float[AnyArray, "n d"]

HEAVY = 5.0
"""A column has heavy tails if its standard deviation exceeds this multiple of its robust scale."""

EDGE = 2.0**-25
"""Smallest probability that `bounded` tells from 0: half the resolution of float32 below 1."""


class Coordinates(NamedTuple):
    """A reversible map of rows, column by column; all three functions are pure."""

    encode: Callable[[Rows], Array]
    """encode(x[n, d]) -> z [n, d]."""
    decode: Callable[[Rows], Array]
    """decode(z[n, d]) -> x [n, d]."""
    log_det: Callable[[Rows], Array]
    """log_det(x[n, d]) -> log |det d encode / d x| [n]."""


def chain(*parts: Coordinates) -> Coordinates:
    """Returns the coordinates that apply the parts in order, first to last; without parts, x itself."""

    def encode(x: Rows) -> Array:
        for part in parts:
            x = part.encode(x)
        return jnp.asarray(x, float)

    def decode(z: Rows) -> Array:
        for part in reversed(parts):
            z = part.decode(z)
        return jnp.asarray(z, float)

    def log_det(x: Rows) -> Array:
        total = jnp.zeros(len(x))
        for part in parts:
            total, x = total + part.log_det(x), part.encode(x)
        return total

    return Coordinates(encode, decode, log_det)


# Standard scores ----------------------------------------------------------------------------------


class _Columns(NamedTuple):
    """z = (u - shift) / stretch; u is (x - centre) / scale, or its asinh in heavy columns. All are [1, d]."""

    centre: np.ndarray
    scale: np.ndarray
    heavy: np.ndarray
    shift: np.ndarray
    stretch: np.ndarray


def standardised(x: Rows) -> Coordinates:
    """Returns the standard score by column, z = (x - mean) / std, of training simulations x [n, d].

    A column is constant if its standard deviation is at most 4 eps max |x|, where eps is the resolution of
    float32. Its scale is 1, so it is encoded as about 0.

    A column has heavy tails if its standard deviation exceeds HEAVY times its robust scale, which is the
    median distance from the median of the values that differ from it, divided by 0.6745. A standard score
    would then map all ordinary values to nearly the same number. Such a column is encoded as

        z = (asinh((x - median) / robust scale) - shift) / stretch

    with the shift and stretch that give z mean 0 and standard deviation 1. The map is nearly linear for
    ordinary values and logarithmic in the tails. Values in the tails whose relative difference is below 1e-5
    may get the same z in float32.

    Raises:
        ValueError: if x is not [n, d] with n >= 2, or if not all numbers are finite.
    """
    centre, scale, heavy, shift, stretch = _measured(_checked(x))
    d = len(heavy[0])
    # The unused branch of a `where` must be finite too, or gradients are NaN.
    compressed = lambda u: jnp.where(heavy, jnp.arcsinh(jnp.where(heavy, u, 0.0)), u)
    expanded = lambda u: jnp.where(heavy, jnp.sinh(jnp.where(heavy, u, 0.0)), u)
    scaled = lambda x: (_rows(x, d) - centre) / scale

    def encode(x: Rows) -> Array:
        return (compressed(scaled(x)) - shift) / stretch

    def decode(z: Rows) -> Array:
        return expanded(_rows(z, d) * stretch + shift) * scale + centre

    def log_det(x: Rows) -> Array:
        slope = jnp.where(heavy, jnp.log(jnp.hypot(1.0, jnp.where(heavy, scaled(x), 0.0))), 0.0)
        return -jnp.sum(slope + np.log(scale) + np.log(stretch), axis=1)

    return Coordinates(encode, decode, log_det)


def _checked(x: Rows) -> np.ndarray:
    """Returns the numbers that `encode` will see, in float64 for exact sums."""
    x = np.asarray(x)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"simulations have shape {x.shape}; at least two rows [n, d] are needed")
    with np.errstate(over="ignore"):
        x = x.astype(jnp.result_type(float))
    if lost := np.sum(~np.isfinite(x).all(axis=1)):
        raise ValueError(f"{lost} of {len(x)} simulations are not finite; remove them before training")
    return x.astype(np.float64)


def _measured(x: np.ndarray) -> _Columns:
    resolution = np.finfo(jnp.result_type(float))
    eps = resolution.eps
    mean, std, median = x.mean(axis=0), x.std(axis=0), np.median(x, axis=0)
    constant = std <= np.maximum(4 * eps * np.abs(x).max(axis=0), resolution.tiny)
    away = np.abs(x - median)
    away = np.where(away > np.maximum(4 * eps * np.abs(median), resolution.tiny), away, np.nan)
    some = ~np.isnan(away).all(axis=0)
    robust = np.where(some, np.nanmedian(np.where(some, away, 1.0), axis=0), 1.0) / 0.6745
    heavy = ~constant & some & (std > HEAVY * robust)
    centre = np.where(heavy, median, mean)
    scale = np.where(heavy, robust, np.where(constant, 1.0, std))
    u = np.arcsinh((x - centre) / scale)
    shift, stretch = np.where(heavy, u.mean(axis=0), 0.0), np.where(heavy, u.std(axis=0), 1.0)
    row = lambda values: values[None].astype(resolution.dtype)
    return _Columns(row(centre), row(scale), heavy[None], row(shift), row(stretch))


# Boxes --------------------------------------------------------------------------------------------


def bounded(low: Float[AnyArray, "d"], high: Float[AnyArray, "d"]) -> Coordinates:
    """Returns z = Phi^-1((x - low) / (high - low)), from a box to the whole space; Phi is the normal CDF.

    A uniform prior on the box becomes exactly N(0, I), whose score is known at every noise level. A logistic
    map would give the prior heavier tails.

    Both edges are handled alike: probabilities near 1 are measured from `high`. Probabilities below EDGE
    count as EDGE, so |z| <= 5.42, and the edges themselves are finite. `decode` never leaves the box. A point
    outside of the box is encoded as the nearest edge. Its log_det is -inf, so its density is 0.

    Raises:
        ValueError: if low and high are not [d], or not low < high.
    """
    low, high = (np.asarray(each, jnp.result_type(float)) for each in (low, high))
    if low.ndim != 1 or low.shape != high.shape or not (low < high).all():
        raise ValueError(f"bounds must be [d] with low < high, not {low} and {high}")
    low, high, d = low[None], high[None], len(low)
    width = high - low
    if not np.isfinite(width).all():
        raise ValueError(f"bounds {low} and {high} must be finite")

    def encode(x: Rows) -> Array:
        x = _rows(x, d)
        below, above = (x - low) / width, (high - x) / width
        # Only the smaller of the two is precise, and only its branch has a gradient.
        p = jnp.maximum(jnp.where(below <= above, below, above), EDGE)
        return jnp.where(below <= above, 1.0, -1.0) * ndtri(p)

    def decode(z: Rows) -> Array:
        z = _rows(z, d)
        part = width * ndtr(-jnp.abs(z))
        return jnp.where(z < 0, low + part, high - part)

    def log_det(x: Rows) -> Array:
        x = _rows(x, d)
        each = 0.5 * encode(x) ** 2 + 0.5 * math.log(2 * math.pi) - np.log(width)
        return jnp.where(((x >= low) & (x <= high)).all(axis=1), each.sum(axis=1), -jnp.inf)

    return Coordinates(encode, decode, log_det)


def _rows(x: Rows, d: int) -> Array:
    x = jnp.asarray(x, float)
    if x.ndim != 2 or x.shape[1] != d:
        raise ValueError(f"rows have shape {x.shape}; these coordinates are of [n, {d}]")
    return x

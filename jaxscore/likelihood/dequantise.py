"""From grey values, which have probabilities, to numbers with a density, and bits per dimension."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Num

from jaxscore import noise
from jaxscore.likelihood.flow import LogDensity
from jaxscore.types import AnyArray, Array, Key

Batch = Float[Array, "b *event"]


class Dequantised(NamedTuple):
    """Grey values with noise, and what makes a density of them a probability of grey values."""

    x: Float[Array, "b_draws *event"]
    """Examples in the units of the score; all draws of an example lie one after another."""
    log_volume: Float[Array, "b_draws"]
    """Log volume of the cell of the grey values of each row, in the units of the score."""
    draws: int


def dequantise(
    key: Key,
    images: Num[AnyArray, "b *event"],
    *,
    values: int = 256,
    draws: int = 1,
    encode: Callable[[Array], Array] = lambda y: y,
) -> Dequantised:
    """Returns y = (k + u) / values in the units of the score, k the grey value, u uniform in 0..1.

    The cells of all grey values tile 0..1. With one draw, log p(y) + log volume is a lower bound of the log
    probability of the image, on average over u; with more, the log of the mean of the probabilities is a
    tighter one. Draw j of row i depends on (key, i) and j alone. Conditions must be repeated too:
    jnp.repeat(condition, draws, axis=0).

    Args:
        key: one key, or an array of keys, one for each image.
        images: integers k in 0..values - 1, such as bytes; or numbers in 0..1 that are k / (values - 1).
        values: number of grey values that the images may have, m.
        draws: number of draws for each image.
        encode: encode(y) -> x, from 0..1 to the units of the score, each number by itself and linearly.

    Raises:
        ValueError: for images that are no grey values, and for an `encode` that is not linear. Inside jit the
            values are not known: the result is NaN where they are wrong.

    Source: Theis et al. 2016, section 3.1 (uniform); Burda et al. 2016 (several draws).
    """
    if draws < 1 or values < 2:
        raise ValueError(f"draws = {draws} must be at least 1, and values = {values} at least 2")
    if images.size == 0:
        raise ValueError(f"images has shape {images.shape}; at least one row and one number are needed")
    levels = jnp.repeat(jnp.asarray(_grey_values(images, values), jnp.float32), draws, axis=0)
    by_draw = jax.vmap(jax.random.fold_in, (None, 0))
    draw = jax.vmap(lambda key: jax.random.uniform(key, levels.shape[1:]))
    rows = jax.vmap(lambda key: draw(by_draw(key, jnp.arange(draws))))(noise.row_keys(key, len(images)))
    u = rows.reshape(levels.shape)
    # k + u is rounded to float32: for u near 1 it may reach the next cell.
    y = jnp.minimum((levels + u) / values, jnp.nextafter((levels + 1) / values, jnp.zeros_like(levels)))
    zeros, ones = jnp.zeros_like(y), jnp.ones_like(y)
    x, (offset, slope) = encode(y), jax.jvp(encode, (zeros,), (ones,))
    if x.shape != y.shape:
        raise ValueError(f"encode returns shape {x.shape} for {y.shape}; they must be equal")
    linear = jnp.isclose(x, offset + slope * y, rtol=1e-3, atol=1e-4) & (slope != 0)
    if not isinstance(x, jax.core.Tracer) and not linear.all():
        raise ValueError("encode is not linear, number by number: the volume of a cell is not known")
    volume = jnp.sum(
        jnp.where(linear, jnp.log(jnp.abs(slope) / values), jnp.nan), axis=tuple(range(1, x.ndim))
    )
    return Dequantised(x, volume, draws)


class Bits(NamedTuple):
    """Bits per dimension of each image, an upper bound on average, and their standard error."""

    value: Float[Array, "b"]
    standard_error: Float[Array, "b"]
    """Standard error that the log density causes; the draws of u are not in it."""


def bits_per_dimension(density: LogDensity, dequantised: Dequantised | Any) -> Bits:
    """Returns -log2 P(image) / D from the log density of `dequantised.x`.

        P = mean over draws of p(x) volume

    Raises TypeError unless it is given what `dequantise` has returned: a density alone has no bits of data.
    """
    if not isinstance(dequantised, Dequantised):
        need = "dequantised = dequantise(key, images), and the log density of dequantised.x"
        raise TypeError(f"bits per dimension are of grey values: give {need}")
    if density.value.shape != dequantised.log_volume.shape:
        shapes = f"{density.value.shape} and {dequantised.log_volume.shape}"
        raise ValueError(f"the density has not the rows of dequantised.x: {shapes}")
    size = math.prod(dequantised.x.shape[1:])
    by_draw = lambda rows: rows.reshape(-1, dequantised.draws)
    logs = by_draw(density.value + dequantised.log_volume)
    weights = jax.nn.softmax(logs, axis=1)
    total = jax.nn.logsumexp(logs, axis=1) - math.log(dequantised.draws)
    error = jnp.sqrt(jnp.sum((weights * by_draw(density.standard_error)) ** 2, axis=1))
    return Bits(-total / (size * math.log(2)), error / (size * math.log(2)))


def _grey_values(images: AnyArray, values: int) -> AnyArray:
    """Returns k in 0..values - 1. Raises ValueError if the images are known to be something else."""
    whole = not jnp.issubdtype(images.dtype, jnp.inexact)
    # Bytes would wrap around when compared with 256.
    given = jnp.asarray(images, jnp.int32) if whole else jnp.asarray(images) * (values - 1)
    levels = jnp.round(given)
    fine = (jnp.abs(given - levels) < 1e-2) & (levels >= 0) & (levels < values)
    if not isinstance(fine, jax.core.Tracer) and not fine.all():
        need = f"integers in 0..{values - 1}, or k / {values - 1} in 0..1"
        have = f"{float(jnp.min(images)):g}..{float(jnp.max(images)):g}"
        raise ValueError(f"images with {values} grey values are {need}; these are {images.dtype} {have}")
    return jnp.where(fine, levels, jnp.nan)

"""Held-out bits per dimension for the VAE and the flow.

For pixels they are the bits of grey values, for points the bits of the density. Both families' estimates
depend on random noise, so the mean over several draws is reported.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.families.setting import Setting
from jaxscore import keys, noise
from jaxscore.keys import Stream

LOG_TWO_PI = float(np.log(2 * np.pi))


def log_normal(setting: Setting, x, mean, log_scale) -> jax.Array:
    """log p(x) of N(mean, scale^2) in nats, [b]: the log density for points.

    For pixels it is the log probability of the grey value's bin; the first and the last bin are infinite.
    """
    event, scale = tuple(range(1, x.ndim)), jnp.exp(log_scale)[None]
    if setting.grey_values is None:
        z = (x - mean) / scale
        return -jnp.sum(z**2 / 2 + log_scale[None] + LOG_TWO_PI / 2, axis=event)
    half = 0.5 / setting.grey_values / setting.std
    pixels = x * setting.std + setting.mean
    edge = 0.25 / setting.grey_values
    upper = jnp.where(pixels > 1 - edge, jnp.inf, (x + half - mean) / scale)
    lower = jnp.where(pixels < edge, -jnp.inf, (x - half - mean) / scale)
    return jnp.sum(log_probability(lower, upper), axis=event)


def log_probability(lower: jax.Array, upper: jax.Array) -> jax.Array:
    """log(Phi(upper) - Phi(lower)) for lower < upper; either may be infinite. Accurate in both tails."""
    # Phi near 1 loses its digits, Phi near 0 does not: positive intervals are mirrored.
    swap = lower > 0
    low, high = jnp.where(swap, -upper, lower), jnp.where(swap, -lower, upper)
    finite = lambda a, other: jnp.where(jnp.isinf(a), other, a)
    top = jnp.where(jnp.isinf(high), 0.0, jax.scipy.stats.norm.logcdf(finite(high, 0.0)))
    bottom = jax.scipy.stats.norm.logcdf(finite(low, 0.0))
    gap = jnp.maximum(top - finite(jnp.where(jnp.isinf(low), 0.0, bottom), 0.0), 1e-6)
    part = jnp.log(-jnp.expm1(-gap))
    return top + jnp.where(jnp.isinf(low), 0.0, part)


def bits_held_out(
    setting: Setting, log_density: Callable[..., jax.Array], params: Any, *, draws: int, seed: int
) -> float:
    """Bits per dimension of the held-out set: the mean of -log2 p over examples and draws.

    Args:
        setting: data set.
        log_density: log_density(params, keys, x) -> [b], in nats, for scaled examples: the log density of
            points, the log probability of grey values, or a lower bound of either.
        params: parameters of the family.
        draws: number of draws of noise for each example.
        seed: seed of the noise.
    """
    x = setting.scaled(jnp.asarray(setting.held_out))
    rows = noise.row_keys(keys.stream(seed, Stream.EVALUATE), len(x))
    # The examples are an argument: XLA would fold constants, which takes longer than the computation.
    mean = jax.jit(lambda params, keys, x, n: log_density(params, noise.fold_in(keys, n), x).mean())
    nats = np.mean([float(mean(params, rows, x, number)) for number in range(draws)])
    return per_dimension(setting, nats)


def per_dimension(setting: Setting, nats: float) -> float:
    """Bits per dimension from the mean log likelihood of scaled examples.

    For points they are the bits of the density of unscaled examples.
    """
    size = int(np.prod(setting.event))
    volume = size * np.log(setting.std) if setting.grey_values is None else 0.0
    return float((volume - nats) / (size * np.log(2)))

"""Likelihoods in bits: of pixels cut into grey values, of points by their density.

Of the VAE and the flow. Both have a log density, or a bound of it, that depends on a draw of noise; what is
reported is its mean over draws, of examples that were held out.
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
    """log p(x) of N(mean, scale^2) in nats, [b]: of points its density, of pixels the bin's probability.

    The first and the last grey value have all that is beyond them.
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
    """log(Phi(upper) - Phi(lower)), lower < upper, either infinite; accurate in both tails."""
    # Where both are positive the same interval's mirror image is used, whose tail has all its digits.
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
    """Bits per dimension of what was held out: -log2 of the density, the mean over examples and draws.

    log_density(params, keys, x) is in nats, [b], of scaled examples; of pixels the probability of their grey
    values, or a lower bound of either.
    """
    x = setting.scaled(jnp.asarray(setting.held_out))
    rows = noise.row_keys(keys.stream(seed, Stream.EVALUATE), len(x))
    # The examples are an argument: as a constant XLA would spend longer folding them than computing.
    mean = jax.jit(lambda params, keys, x, n: log_density(params, noise.fold_in(keys, n), x).mean())
    nats = np.mean([float(mean(params, rows, x, number)) for number in range(draws)])
    return per_dimension(setting, nats)


def per_dimension(setting: Setting, nats: float) -> float:
    """Bits per dimension of a mean log likelihood; of points that of the density of unscaled ones."""
    size = int(np.prod(setting.event))
    volume = size * np.log(setting.std) if setting.grey_values is None else 0.0
    return float((volume - nats) / (size * np.log(2)))

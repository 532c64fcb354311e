"""Pairs of neighbouring noise levels, and their number in the course of training."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore import noise
from jaxscore.types import Array

MOST = 1_000_000
"""Most levels of a grid; float32 does not tell more of them apart."""

Levels = Float[Array, "b"]
Cells = Callable[[Array], tuple[Array, Array]]
"""cells(sigma[b]) -> (lower[b], upper[b]), the levels of a grid on both sides of sigma."""


def curriculum(step: int | Array, steps: int, *, first: int = 10, last: int = 1280) -> Array:
    """Number of noise levels N at a step of training: from first + 1 to last + 1, doubled at even intervals.

        N(k) = min(first 2^floor(k / K'), last) + 1,    K' = floor(K / (log2 floor(last / first) + 1))

    It is computed for a traced step too; a step below 0 counts as 0. Raises ValueError unless steps >= 1 and
    1 <= first <= last <= MOST.

    Source: Song & Dhariwal 2024, "Improved techniques for training consistency models", section 3.4.
    """
    if not (steps >= 1 and 1 <= first <= last <= MOST):
        text = f"need steps >= 1 and 1 <= first <= last <= {MOST:,}"
        raise ValueError(f"{text}, not {steps}, {first} and {last}")
    interval = max(math.floor(steps / (math.log2(last // first) + 1)), 1)
    doublings = jnp.minimum(jnp.maximum(jnp.asarray(step), 0) // interval, math.ceil(math.log2(last / first)))
    return jnp.minimum(first * 2**doublings, last) + 1


def cells(n: int | Array, sigma_min: float, sigma_max: float, *, rho: float = 7.0) -> Cells:
    """Returns sigma[b] -> (lower[b], upper[b]), the neighbours of sigma in the grid of n noise levels.

    The grid is `noise.karras` at n even values of u. A sigma outside of the grid belongs to the first or to
    the last cell. With ln sigma ~ N(-1.1, 2^2), the cells are drawn as in Song & Dhariwal 2024, section 3.5.

    Args:
        n: number of levels, an integer of at least 2; it may be traced, as `curriculum` returns it.
        sigma_min: smallest level.
        sigma_max: largest level.
        rho: as in `noise.karras`.

    Raises ValueError if n is known to be no integer from 2 to MOST, and for a range that `noise.karras`
    refuses. If a traced n is no such integer, the levels are NaN.
    """
    if not isinstance(n, jax.core.Tracer) and (jnp.ndim(n) or not 2 <= n <= MOST or n != int(n)):
        raise ValueError(f"n = {n} levels: an integer from 2 to {MOST:,} is needed")
    n = jnp.asarray(n)
    n = jnp.where((n < 2) | (n > MOST) | (n != jnp.floor(n)), jnp.nan, n)
    grid = noise.karras(sigma_min, sigma_max, rho=rho)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)

    def neighbours(sigma: Levels) -> tuple[Levels, Levels]:
        u = (sigma ** (1 / rho) - low) / (high - low)
        number = jnp.clip(jnp.floor(u * (n - 1)), 0, n - 2)
        return grid(number / (n - 1)), grid((number + 1) / (n - 1))

    return neighbours

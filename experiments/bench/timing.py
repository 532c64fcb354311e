"""Timings that say how much they vary."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Spread(NamedTuple):
    """The quartiles of some runs."""

    low: float
    median: float
    high: float
    runs: int


def rounds(jobs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every run of each job; a round runs them all, so that a slow moment hits them all."""
    for job in jobs.values():
        jax.block_until_ready(job())
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            begin = time.perf_counter()
            jax.block_until_ready(job())
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def median_seconds(jobs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """The median time of each job."""
    return {name: statistics.median(values) for name, values in rounds(jobs, repeats).items()}


def spread(values: list[float] | np.ndarray) -> Spread:
    """Quartiles, and of how many."""
    low, median, high = (float(q) for q in np.quantile(np.asarray(values), (0.25, 0.5, 0.75)))
    return Spread(low, median, high, len(values))


def product(side: int, dtype: str) -> Callable[[], jax.Array]:
    """The job of multiplying two square matrices: 2 side^3 operations."""
    square, multiply = jnp.ones((side, side), dtype), jax.jit(jnp.matmul)
    return lambda: multiply(square, square)

"""Timing of jobs that take turns, and the quartiles of their seconds."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Jobs = dict[str, Callable[[], Any]]


class Spread(NamedTuple):
    """Quartiles of the values of several runs."""

    low: float
    median: float
    high: float
    runs: int


def all_runs(jobs: Jobs, rounds: int, *, limit: float = math.inf) -> dict[str, list[float]]:
    """Seconds of every run of each job, the first run included.

    A round runs every job once, so that a slow moment of the machine affects all jobs alike. A job that
    has taken `limit` seconds in total is skipped in later rounds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            if sum(seconds[name]) < limit:
                begin = time.perf_counter()
                jax.block_until_ready(job())
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def rounds(jobs: Jobs, repeats: int) -> dict[str, list[float]]:
    """Seconds of `repeats` runs of each job, taken in turn after a first round that is not counted."""
    return {name: values[1:] for name, values in all_runs(jobs, repeats + 1).items()}


def median_seconds(jobs: Jobs, repeats: int) -> dict[str, float]:
    """Median seconds of each job over `repeats` runs."""
    return {name: statistics.median(values) for name, values in rounds(jobs, repeats).items()}


def spread(values: list[float] | np.ndarray) -> Spread:
    """Quartiles of the values, and their number."""
    low, median, high = (float(q) for q in np.quantile(np.asarray(values), (0.25, 0.5, 0.75)))
    return Spread(low, median, high, len(values))


def product(side: int, dtype: str = "float32") -> Callable[[], jax.Array]:
    """Job that multiplies two square matrices, which takes 2 side^3 floating-point operations."""
    square, multiply = jnp.ones((side, side), dtype), jax.jit(jnp.matmul)
    return lambda: multiply(square, square)

"""Timings in turn, and their quartiles."""

import itertools
import statistics
import time

import jax.numpy as jnp

from experiments.common import timing


def test_the_median_is_of_rounds_that_run_every_job(monkeypatch):
    clock = itertools.accumulate(itertools.cycle([0.0, 1.0, 0.0, 5.0]))  # a takes 1 s, b takes 5 s
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    order = []
    jobs = {name: lambda name=name: order.append(name) for name in "ab"}
    assert timing.median_seconds(jobs, 3) == {"a": 1.0, "b": 5.0}
    assert order == ["a", "b"] * 4  # once before, unmeasured


def test_a_spread_is_the_quartiles():
    values = [5.0, 1.0, 2.0, 4.0, 3.0]
    low, median, high, runs = timing.spread(values)
    assert (low, median, high, runs) == (2.0, statistics.median(values), 4.0, 5)


def test_the_product_is_of_the_type_asked_for():
    assert timing.product(8, "bfloat16")().dtype == jnp.bfloat16

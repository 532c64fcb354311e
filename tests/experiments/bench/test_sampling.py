"""Sampling counted by evaluations of the network."""

import pytest

from experiments.bench import sampling
from tests.experiments.bench import tiny


def test_a_sampler_that_is_timed_in_part_counts_as_the_whole():
    found = sampling.measure(tiny.workload(), repeats=1)
    each = found["sampling by one, ms per evaluation of 16 images"]
    speed = found["sampling by one, images/s (50 evaluations)"]
    assert speed.median == pytest.approx(16 / (each.median / 1e3 * 50))


def test_the_samplers_ratios_are_those_of_the_table():
    found = sampling.ratios(8, 1)
    assert next(iter(found)) == "forward pass, ms"
    assert found["heun: temporary memory, 180 steps / 18 steps"] == pytest.approx(1.0, rel=0.01)
    assert sum("evaluations x forward pass" in name for name in found) == 4

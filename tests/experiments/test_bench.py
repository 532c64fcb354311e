import itertools
import time

import jax
import pytest

from experiments import bench, ncsn
from experiments.flags import FlagError
from tests.experiments import tiny_ncsn

FEW = bench.Config(repeats=2, matrix=64)


def test_the_median_is_of_rounds_that_run_every_job(monkeypatch):
    clock = itertools.accumulate(itertools.cycle([0.0, 1.0, 0.0, 5.0]))  # a takes 1 s, b takes 5 s
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    order = []
    jobs = {name: lambda name=name: order.append(name) for name in "ab"}
    assert bench.median_seconds(jobs, 3) == {"a": 1.0, "b": 5.0}
    assert order == ["a", "b"] * 4  # once before, unmeasured


def test_a_training_step_is_held_against_a_matrix_product_of_its_flops(tmp_path, monkeypatch):
    monkeypatch.setattr(ncsn, "score_network", tiny_ncsn.score_network)
    experiment = ncsn.build(tiny_ncsn.config(tmp_path))
    figures = bench.training(FEW, experiment)
    assert all(value > 0 for value in figures.values())
    ratio = figures["matrix product, GFLOP/s"] / figures["training step, GFLOP/s"]
    assert figures["training step: time / matrix product of its FLOPs"] == pytest.approx(ratio)


def test_ncsnv2_is_that_of_7_million_parameters():
    shapes = jax.eval_shape(bench.ncsnv2().init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 7_429_187
    assert next(bench.ncsnv2().batches(0)).shape == (16, 32, 32, 3)


def test_a_count_of_zero_is_refused():
    with pytest.raises(FlagError, match="--repeats 0: must be at least 1"):
        bench.Config(repeats=0)

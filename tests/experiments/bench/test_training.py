"""Timings of training; the programs are tiny, so the assertions hold at any speed."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from experiments.bench import training
from experiments.common.timing import Spread
from jaxscore import plan, sharding
from tests.experiments.bench import tiny


@pytest.fixture(scope="module")
def trained():
    return training.measure(tiny.workload(), repeats=3, side=32)


def test_a_step_is_held_against_a_product_of_its_flops(trained):
    spreads = {name: value for name, value in trained.items() if isinstance(value, Spread)}
    for low, median, high, _ in spreads.values():
        assert 0 < low <= median <= high
    ratio = "training step: time / matrix product of its FLOPs"
    product, step = "matrix product in float32, GFLOP/s", "training step, GFLOP/s"
    # Quotients of medians lie within the quotients of the extremes of three runs.
    low, high = trained[product].low / trained[step].high, trained[product].high / trained[step].low
    assert low / 2 <= trained[ratio].median <= 2 * high
    images = trained["training, images/s"].median * trained["training step, ms"].median / 1e3
    assert images == pytest.approx(16, rel=0.2)  # the batch; medians of inverses are inverses, nearly


def test_what_cannot_be_read_is_counted_by_xla(monkeypatch):
    def refuse(compiled):
        raise ValueError("not a program")

    monkeypatch.setattr(plan, "cost", refuse)
    compiled = jax.jit(jnp.matmul).lower(jnp.ones((4, 4)), jnp.ones((4, 4))).compile()
    assert training.operations(compiled, sharding.mesh()) == 8 * compiled.cost_analysis()["flops"]


def test_the_share_of_the_peak_is_of_all_chips(monkeypatch):
    monkeypatch.setattr(plan, "find", lambda kind: plan.measured(kind, 1e9))
    mesh = sharding.mesh()
    compiled = jax.jit(jnp.matmul).lower(jnp.ones((10, 10)), jnp.ones((10, 10))).compile()
    seconds = {"step": jnp.full(3, 1e-3), "product": jnp.full(3, 1.0)}
    found = training.speed(compiled, mesh, seconds, "float32", 10)
    # 8 x 2000 operations in a millisecond, of 8 devices' 1e9 per second
    assert found["training step, share of the chip's peak (MFU)"].median == pytest.approx(2000 / 1e6)


def test_compiling_is_timed_cold_and_from_a_cache(trained):
    """The cache is gone afterwards."""
    cold, cached = (trained[f"training step, compile seconds{end}"] for end in ("", ", cached"))
    assert cold > 0
    assert cached > 0
    before = jax.config.jax_compilation_cache_dir
    with training.empty_cache():
        folder = jax.config.jax_compilation_cache_dir
        jax.jit(lambda x: jnp.sin(x) * 3.5).lower(1.0).compile()
        files = list(Path(folder).iterdir())
    assert folder != before == jax.config.jax_compilation_cache_dir
    assert files


def test_waiting_for_data_is_a_share_of_the_time(trained):
    assert 0 <= trained["steps wait for data, % of their time"] <= 100
    assert trained["fetching a batch, % of a step"].runs == 3


def test_the_stall_of_a_save_is_measured_at_two_sizes(trained, monkeypatch):
    stalls = [value for name, value in trained.items() if name.startswith("checkpoint of")]
    assert [value.runs for value in stalls] == [5, 5]
    state = training.a_state_of(48_000)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(state.params)) == 48_000

"""Timings here are of tiny programs on a busy machine: only what is true of any speed is asserted."""

import itertools
import json
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from experiments.bench import run as bench
from experiments.bench import sampling as bench_sampling
from experiments.bench import scaling as bench_scaling
from experiments.bench import training as bench_training
from experiments.bench import workloads as bench_workloads
from experiments.common import timing as bench_timing
from experiments.common.timing import Spread
from jaxscore import plan, sharding
from jaxscore.launch import programs
from jaxscore.launch.flags import FlagError
from tests.launch import tiny


def tiny_workload():
    """Two layers on points of the plane; Heun's three steps are five evaluations of the network."""
    experiment = tiny.build(tiny.Config())
    return bench_workloads.Workload(experiment, "float32", experiment, "one", 5, 50)


@pytest.fixture(scope="module")
def trained():
    return bench_training.measure(tiny_workload(), repeats=3, side=32)


# Timing ---------------------------------------------------------------------------------------


def test_the_median_is_of_rounds_that_run_every_job(monkeypatch):
    clock = itertools.accumulate(itertools.cycle([0.0, 1.0, 0.0, 5.0]))  # a takes 1 s, b takes 5 s
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    order = []
    jobs = {name: lambda name=name: order.append(name) for name in "ab"}
    assert bench_timing.median_seconds(jobs, 3) == {"a": 1.0, "b": 5.0}
    assert order == ["a", "b"] * 4  # once before, unmeasured


def test_a_spread_is_the_quartiles():
    values = [5.0, 1.0, 2.0, 4.0, 3.0]
    low, median, high, runs = bench_timing.spread(values)
    assert (low, median, high, runs) == (2.0, statistics.median(values), 4.0, 5)


def test_the_product_is_of_the_type_asked_for():
    assert bench_timing.product(8, "bfloat16")().dtype == jnp.bfloat16


# Training -------------------------------------------------------------------------------------


def test_a_training_step_is_held_against_a_matrix_product_of_its_flops(trained):
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


def test_operations_are_those_of_all_devices():
    experiment, mesh = tiny.build(tiny.Config(width=64)), sharding.mesh()
    step, _ = bench_training.compiled_step(experiment, mesh)
    # Sixteen rows: products forward, for the weights, and back through the second layer. XLA makes
    # products of some sums as well, which is less than a hundredth of them.
    expected = 2 * 16 * 64 * (2 * (3 + 2) + 2)
    assert bench_training.operations(step, mesh) == pytest.approx(expected, rel=0.01)


def test_what_cannot_be_read_is_counted_by_xla(monkeypatch):
    def refuse(compiled):
        raise ValueError("not a program")

    monkeypatch.setattr(plan, "cost", refuse)
    compiled = jax.jit(jnp.matmul).lower(jnp.ones((4, 4)), jnp.ones((4, 4))).compile()
    assert bench_training.operations(compiled, sharding.mesh()) == 8 * compiled.cost_analysis()["flops"]


def test_the_share_of_the_peak_is_of_all_chips(monkeypatch):
    monkeypatch.setattr(plan, "find", lambda kind: plan.measured(kind, 1e9))
    mesh = sharding.mesh()
    compiled = jax.jit(jnp.matmul).lower(jnp.ones((10, 10)), jnp.ones((10, 10))).compile()
    seconds = {"step": jnp.full(3, 1e-3), "product": jnp.full(3, 1.0)}
    found = bench_training.speed(compiled, mesh, seconds, "float32", 10)
    # 8 x 2000 operations in a millisecond, of 8 devices' 1e9 per second
    assert found["training step, share of the chip's peak (MFU)"].median == pytest.approx(2000 / 1e6)


def test_compiling_is_timed_cold_and_from_a_cache_that_is_gone_afterwards(trained):
    cold, cached = (trained[f"training step, compile seconds{end}"] for end in ("", ", cached"))
    assert cold > 0
    assert cached > 0
    before = jax.config.jax_compilation_cache_dir
    with bench_training.empty_cache():
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
    state = bench_training.a_state_of(48_000)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(state.params)) == 48_000


# Sampling and scaling -------------------------------------------------------------------------


def test_a_sampler_that_is_timed_in_part_counts_as_the_whole():
    found = bench_sampling.measure(tiny_workload(), repeats=1)
    each = found["sampling by one, ms per evaluation of 16 images"]
    speed = found["sampling by one, images/s (50 evaluations)"]
    assert speed.median == pytest.approx(16 / (each.median / 1e3 * 50))


def test_the_samplers_ratios_are_those_of_the_table():
    found = bench_sampling.ratios(8, 1)
    assert next(iter(found)) == "forward pass, ms"
    assert found["heun: temporary memory, 180 steps / 18 steps"] == pytest.approx(1.0, rel=0.01)
    assert sum("evaluations x forward pass" in name for name in found) == 4


def test_a_device_sends_the_gradient_twice_as_devices_grow():
    rows = bench_scaling.exchanged(tiny_workload(), each=2)
    assert [(row["devices"], row["fsdp"]) for row in rows] == [
        (1, 1), (2, 1), (2, 2), (4, 1), (4, 4), (8, 1), (8, 8),
    ]  # fmt: skip
    size = 4 * (3 * 8 + 8 + 8 * 2)
    for row in rows:
        n = row["devices"]
        whole = row["sent_bytes"] / (2 * (n - 1) / n) if n > 1 else size
        assert size <= whole <= size + 64  # the gradient, and with it the metrics
        assert row["flops"] == rows[0]["flops"]  # weak: as many images for each device


def test_weak_scaling_is_measured_in_a_process_of_simulated_devices(monkeypatch):
    seen = {}

    def run(command, env, **options):
        seen.update(env)
        return bench_scaling.subprocess.CompletedProcess(command, 0, 'noise\n[{"devices": 1}]\n', "")

    monkeypatch.setattr(bench_scaling.subprocess, "run", run)
    assert bench_scaling.measure("digits") == [{"devices": 1}]
    assert seen["XLA_FLAGS"] == "--xla_force_host_platform_device_count=8"
    assert int(seen["NPROC"]) >= 16
    failed = bench_scaling.subprocess.CompletedProcess([], 1, "", "trace\nValueError: no")
    monkeypatch.setattr(bench_scaling.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(RuntimeError, match="weak scaling of digits: ValueError: no"):
        bench_scaling.measure("digits")


# The whole ------------------------------------------------------------------------------------


def test_the_table_and_the_file_have_every_figure(tmp_path, monkeypatch, capsys):
    spread = Spread(1.0, 2.0, 3.0, 9)
    monkeypatch.setattr(bench_sampling, "ratios", lambda batch, repeats: {"forward pass, ms": 4.0})
    monkeypatch.setattr(bench_training, "measure", lambda *a, **k: {"training step, ms": spread})
    monkeypatch.setattr(bench_sampling, "measure", lambda *a, **k: {"sampling, images/s": spread})
    rows = [
        {"devices": n, "fsdp": fsdp, "sent_bytes": 1e6 * n, "flops": 1}
        for n in (1, 2, 4, 8)
        for fsdp in {1, n}
    ]
    monkeypatch.setattr(bench_scaling, "measure", lambda name: rows)
    monkeypatch.setitem(bench_workloads.WORKLOADS, "digits", tiny_workload)
    out = tmp_path / "bench.json"
    bench.measure(bench.Config(workloads=("digits",), out=out))
    printed = capsys.readouterr().out
    assert "digits: training step, ms" in printed
    assert "1.000..3.000" in printed
    assert printed.splitlines()[-1].split() == ["8", "devices", "8.000", "8.000"]
    stored = json.loads(out.read_text())
    assert stored["figures"]["digits: training step, ms"] == spread._asdict()
    assert stored["figures"]["forward pass, ms"] == 4.0
    assert stored["scaling"] == {"digits": rows}
    assert stored["jax"] == jax.__version__
    assert "8 x" in stored["device"]


WORKLOADS = {
    "digits": (2_705_088, (256, 8, 8, 1), 17, 17),
    "ncsnv2": (7_429_187, (16, 32, 32, 3), 11, 1161),
    "unet": (None, (16, 32, 32, 3), 3, 35),
    "cifar10": (29_694_083, (128, 32, 32, 3), 11, 1161),
    "ncsn_v1": (None, (128, 32, 32, 3), 201, 1001),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_workloads_are_what_their_names_say(name):
    parameters, shape, timed, whole = WORKLOADS[name]
    workload = bench_workloads.WORKLOADS[name]()
    mesh = sharding.mesh()
    count = plan.parameters(jax.eval_shape(workload.experiment.init, jax.random.key(0)))
    assert count == parameters or (parameters is None and count > 1_000_000)
    assert programs.abstract_batch(workload.experiment, mesh).shape == shape
    assert next(workload.experiment.batches(0)).shape == shape
    assert (workload.evaluations, workload.whole) == (timed, whole)
    assert workload.sampler in workload.sampled.samplers


def test_a_u_net_learns_and_is_sampled():
    config = bench_workloads.UNetConfig(batch=8, channels=8)
    workload = bench_workloads.unet(config)
    loss = jax.eval_shape(
        workload.experiment.loss,
        jax.eval_shape(workload.experiment.init, jax.random.key(0)),
        jax.random.key(1),
        jax.ShapeDtypeStruct((8, 32, 32, 3), jnp.float32),
    )
    assert loss[0].shape == ()
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 8))
    params = jax.eval_shape(workload.experiment.init, jax.random.key(0))
    assert jax.eval_shape(workload.experiment.samplers["heun"], params, keys).shape == (8, 32, 32, 3)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"repeats": 0}, "--repeats 0: must be at least 1"),
        ({"workloads": ("nope",)}, "--workloads nope: is not known; use digits, ncsnv2"),
        ({"scaling": ("nope",)}, "--scaling nope: is not known; use digits, ncsnv2"),
    ],
)
def test_impossible_flags_are_refused(changes, text):
    with pytest.raises(FlagError, match=text):
        bench.Config(**changes)

"""Benchmarks of training: compilation, steps, memory, waiting for data, and the stall while saving."""

import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from experiments.bench.workloads import Workload
from experiments.common.timing import Spread, product, rounds, spread
from jaxscore import checkpoint, plan, sharding, trainer
from jaxscore.launch import programs, train

Results = dict[str, Any]
STALL_BYTES = 50_000_000
"""Size of a state whose stall can be compared between workloads."""


def measure(workload: Workload, *, repeats: int, side: int) -> Results:
    """Results for the workload's training, by name; a `Spread` if a result was measured several times."""
    experiment, mesh, images = workload.experiment, sharding.mesh(), workload.experiment.config.batch
    with empty_cache():
        step, cold = compiled_step(experiment, mesh)
        step, cached = compiled_step(experiment, mesh)
    key, root = jax.random.key(1), jax.random.key(0)
    latest = [programs.make_init(experiment, mesh)(root)]
    batch = jax.device_put(next(experiment.batches(batch=images, seed=0)), sharding.batched(mesh))

    def train():
        latest[0], metrics = step(key, latest[0], batch)
        return metrics

    jobs = {"step": train, "product": product(side, workload.precision)}
    seconds = {name: np.asarray(values) for name, values in rounds(jobs, repeats).items()}
    results = {
        "training step, ms": spread(1e3 * seconds["step"]),
        "training, images/s": spread(images / seconds["step"]),
        "training step, compile seconds": cold,
        "training step, compile seconds, cached": cached,
    }
    results |= speed(step, mesh, seconds, workload.precision, side)
    results |= memory(step, mesh)
    results |= input_wait(experiment, mesh, step, latest, repeats, statistics.median(seconds["step"]))
    return results | checkpoint_stall(latest[0])


def compiled_step(experiment, mesh) -> tuple[jax.stages.Compiled, float]:
    """The training step, and the seconds that tracing and compiling took."""
    jax.clear_caches()
    begin = time.perf_counter()
    step = programs.lower_step(experiment, mesh).compile()
    return step, time.perf_counter() - begin


@contextlib.contextmanager
def empty_cache() -> Iterator[None]:
    """Inside, JAX's persistent cache of compiled programs is a new, empty folder."""
    options = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in options}
    with tempfile.TemporaryDirectory() as folder:
        for name, value in zip(options, (folder, 0), strict=True):
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        try:
            yield
        finally:
            for name, value in before.items():
                jax.config.update(name, value)
            compilation_cache.reset_cache()


def speed(step, mesh, seconds: dict[str, np.ndarray], precision: str, side: int) -> Results:
    """Operations per second of the step, relative to a matrix product and to the chip's peak if it is known.

    The product multiplies square matrices of the workload's precision on one device. Its rate is therefore
    the speed that this machine really reaches.
    """
    flops = operations(step, mesh)
    rates = flops / seconds["step"]
    peak = 2 * side**3 / seconds["product"]
    results: Results = {
        "training step, GFLOP/s": spread(rates / 1e9),
        f"matrix product in {precision}, GFLOP/s": spread(peak / 1e9),
        "training step: time / matrix product of its FLOPs": spread(peak / rates),
    }
    chip = plan.find(jax.devices()[0].device_kind)
    if chip and chip.peak(precision):
        fraction = rates / (mesh.size * chip.peak(precision))
        results["training step, share of the chip's peak (MFU)"] = spread(fraction)
    return results


def operations(step: jax.stages.Compiled, mesh) -> float:
    """Floating-point operations of a step in matrix products and convolutions, over all devices.

    If `plan` cannot read the program, this is XLA's own count, which counts the body of a loop once.
    """
    try:
        found = plan.cost(step).flops
    except ValueError:
        found = 0
    return mesh.size * float(found or step.cost_analysis()["flops"])


def memory(step: jax.stages.Compiled, mesh) -> Results:
    """MB of memory on a device: planned by the compiler, and the maximum in use if the device reports it."""
    planned = step.memory_analysis()
    results: Results = {
        "training step, MB of arguments": planned.argument_size_in_bytes / 1e6,
        "training step, MB of temporaries": planned.temp_size_in_bytes / 1e6,
    }
    used = (mesh.devices.flat[0].memory_stats() or {}).get("peak_bytes_in_use")
    return results | ({"device memory in use at most, MB": used / 1e6} if used else {})


def input_wait(experiment, mesh, step, latest: list, repeats: int, step_seconds: float) -> Results:
    """Percentage of the training loop's time that it waits for data, and of a step's time to fetch a batch.

    Args:
        experiment: the experiment whose batches are read.
        mesh: the devices.
        step: the compiled training step.
        latest: list of one state, which is replaced by the state after the last step.
        repeats: number of steps, at least 2.
        step_seconds: time of a step whose batch is on the device.
    """
    batches = train.Batches(experiment, mesh, 0)
    begin, steps = time.perf_counter(), max(2, repeats)
    start = int(latest[0].step)
    for state, metrics in trainer.loop(jax.random.key(1), latest[0], step, batches, steps=start + steps):
        latest[0], batches.running = state, metrics["loss"]
    jax.block_until_ready(metrics)
    total = time.perf_counter() - begin
    source, fetched = experiment.batches(batch=experiment.config.batch, seed=0), []
    for _ in range(steps):
        begin = time.perf_counter()
        next(source)
        fetched.append(time.perf_counter() - begin)
    return {
        "steps wait for data, % of their time": 100 * batches.waited / total,
        "fetching a batch, % of a step": spread(100 * np.asarray(fetched) / step_seconds),
    }


def checkpoint_stall(state: trainer.TrainState, *, repeats: int = 5) -> Results:
    """Milliseconds for which `checkpoint.save` blocks the training loop, for this state and one of 50 MB."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    results: Results = {f"checkpoint of {size / 1e6:.0f} MB, stall, ms": stall(state, repeats)}
    if size != STALL_BYTES:
        results["checkpoint of 50 MB, stall, ms"] = stall(a_state_of(STALL_BYTES), repeats)
    return results


def a_state_of(size: int) -> trainer.TrainState:
    """State of `size` bytes in twelve arrays."""
    arrays = {f"array{number:02d}": jnp.ones(size // 48, jnp.float32) for number in range(12)}
    return trainer.TrainState(jnp.int32(0), arrays, {}, ())


def stall(state: trainer.TrainState, repeats: int) -> Spread:
    """Milliseconds that saves of this state block the caller; each waits until the one before is on disk."""
    milliseconds = []
    with tempfile.TemporaryDirectory() as folder, checkpoint.manager(Path(folder) / "saves") as checkpoints:
        for number in range(repeats + 1):
            state = state._replace(step=jnp.int32(number))
            jax.block_until_ready(state)
            begin = time.perf_counter()
            checkpoint.save(checkpoints, state)
            milliseconds.append(1e3 * (time.perf_counter() - begin))
            checkpoint.wait_until_saved(checkpoints)
    return spread(milliseconds[1:])  # the first save also makes the folder and starts Orbax's threads

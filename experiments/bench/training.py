"""Training as `bench` measures it: compiling, steps, memory, waiting for data, and the stall of a save."""

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

from experiments.bench.timing import Spread, product, rounds, spread
from experiments.bench.workloads import Workload
from jaxscore import plan, sharding, trainer
from jaxscore.launch import programs, train

Results = dict[str, Any]
STALL_BYTES = 50_000_000


def measure(workload: Workload, *, repeats: int, side: int) -> Results:
    """All figures of the workload's training, by name; a Spread where runs differ."""
    experiment, mesh = workload.experiment, sharding.mesh()
    with a_cache_of_its_own():
        step, cold = compiled_step(experiment, mesh)
        step, cached = compiled_step(experiment, mesh)
    key, root = jax.random.key(1), jax.random.key(0)
    latest = [programs.make_init(experiment, mesh)(root)]
    batch = jax.device_put(next(experiment.batches(0)), sharding.batched(mesh))

    def train():
        latest[0], metrics = step(key, latest[0], batch)
        return metrics

    jobs = {"step": train, "product": product(side, workload.precision)}
    seconds = {name: np.asarray(values) for name, values in rounds(jobs, repeats).items()}
    figures = {
        "training step, ms": spread(1e3 * seconds["step"]),
        "training, images/s": spread(len(batch) / seconds["step"]),
        "training step, compile seconds": cold,
        "training step, compile seconds, cached": cached,
    }
    figures |= speed(step, mesh, seconds, workload.precision, side)
    figures |= memory(step, mesh)
    figures |= input_wait(experiment, mesh, step, latest, repeats, statistics.median(seconds["step"]))
    return figures | checkpoint_stall(latest[0])


def compiled_step(experiment, mesh) -> tuple[jax.stages.Compiled, float]:
    """The training step, traced and compiled anew, and the seconds that it took."""
    jax.clear_caches()
    arguments = programs.abstract_state(experiment, mesh), programs.abstract_batch(experiment, mesh)
    begin = time.perf_counter()
    step = programs.make_step(experiment, mesh).lower(jax.random.key(1), *arguments).compile()
    return step, time.perf_counter() - begin


@contextlib.contextmanager
def a_cache_of_its_own() -> Iterator[None]:
    """JAX's persistent cache of compiled programs is, within, a folder that was empty."""
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
    """Operations per second against a matrix product's of this machine, and against the chip's peak.

    The product is of square matrices of the recipe's precision, on one device, so its rate is that of
    what this machine really gives.
    """
    flops = operations(step, mesh)
    rates = flops / seconds["step"]
    peak = 2 * side**3 / seconds["product"]
    figures: Results = {
        "training step, GFLOP/s": spread(rates / 1e9),
        f"matrix product in {precision}, GFLOP/s": spread(peak / 1e9),
        "training step: time / matrix product of its FLOPs": spread(peak / rates),
    }
    chip = plan.find(jax.devices()[0].device_kind)
    if chip and chip.peak(precision):
        figures["training step, share of the chip's peak (MFU)"] = spread(
            rates / (mesh.size * chip.peak(precision))
        )
    return figures


def operations(step: jax.stages.Compiled, mesh) -> float:
    """Of the products of all devices; XLA's own count, which has a loop once, of what cannot be read."""
    try:
        found = plan.cost(step).flops
    except ValueError:
        found = 0
    return mesh.size * float(found or step.cost_analysis()["flops"])


def memory(step: jax.stages.Compiled, mesh) -> Results:
    """MB on a device: what the compiler has planned, and what has been in use at most, where it is known."""
    planned = step.memory_analysis()
    figures: Results = {
        "training step, MB of arguments": planned.argument_size_in_bytes / 1e6,
        "training step, MB of temporaries": planned.temp_size_in_bytes / 1e6,
    }
    used = (mesh.devices.flat[0].memory_stats() or {}).get("peak_bytes_in_use")
    return figures | ({"device memory in use at most, MB": used / 1e6} if used else {})


def input_wait(experiment, mesh, step, latest: list, repeats: int, step_seconds: float) -> Results:
    """What a run of the training loop waits for data, as a share of its time."""
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
    """Milliseconds for which `checkpoint.save` keeps the loop waiting."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    figures: Results = {f"checkpoint of {size / 1e6:.0f} MB, stall, ms": stall(state, repeats)}
    if size != STALL_BYTES:
        figures["checkpoint of 50 MB, stall, ms"] = stall(a_state_of(STALL_BYTES), repeats)
    return figures


def a_state_of(size: int) -> trainer.TrainState:
    """A state of so many bytes, in twelve arrays."""
    arrays = {f"array{number:02d}": jnp.ones(size // 48, jnp.float32) for number in range(12)}
    return trainer.TrainState(jnp.int32(0), arrays, {}, ())


def stall(state: trainer.TrainState, repeats: int) -> Spread:
    """Of saves of this state, each when the one before is on the disk."""
    from jaxscore import checkpoint

    milliseconds = []
    with tempfile.TemporaryDirectory() as folder, checkpoint.manager(Path(folder) / "saves") as checkpoints:
        for number in range(repeats + 1):
            state = state._replace(step=jnp.int32(number))
            jax.block_until_ready(state)
            begin = time.perf_counter()
            checkpoint.save(checkpoints, state)
            milliseconds.append(1e3 * (time.perf_counter() - begin))
            checkpoint.wait_until_saved(checkpoints)
    return spread(milliseconds[1:])  # the first makes the folder, and starts Orbax's threads

"""An experiment's programs, compiled for devices that need not be there, and what they will cost.

A row is what the table and the JSON file have of one program on one mesh: a plain dict.
"""

import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxscore import plan, sharding
from jaxscore.launch import programs
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.flags import FlagError

Row = dict[str, Any]


class Target(NamedTuple):
    """Devices, what is known of their kind, and how to compile for them."""

    name: str
    devices: list
    chip: plan.Chip
    compile: Callable[[jax.stages.Lowered], jax.stages.Compiled]
    local: bool


def target(name: str, *, effort: float, side: int = 2048) -> Target:
    """The local devices for "cpu", "gpu" or "tpu", otherwise a TPU slice.

    Raises FlagError if there are none such, or if libtpu is needed and not installed.
    """
    if name in ("cpu", "gpu", "tpu"):
        try:
            devices = jax.devices(name)
        except RuntimeError:
            raise FlagError(f"--topology {name}: JAX finds no such device here") from None
        compile_here = lambda lowered: lowered.compile()
        return Target(name, devices, _local_chip(devices, side), compile_here, True)
    try:
        devices = plan.topology(name)
    except (ImportError, ValueError) as error:
        raise FlagError(f"--topology {name}: {error}") from None
    chip = plan.find(devices[0].device_kind) or plan.unknown(devices[0].device_kind)
    return Target(name, devices, chip, lambda lowered: plan.compiled(lowered, effort=effort), False)


def _local_chip(devices: list, side: int) -> plan.Chip:
    kind = devices[0].device_kind
    found = plan.find(kind)
    if found is None:
        # All devices at a time: simulated ones share the processor.
        found = plan.measured(kind, product_rate(side) / len(devices))
    limit = (devices[0].memory_stats() or {}).get("bytes_limit")
    return found._replace(memory_bytes=limit or found.memory_bytes)


def product_rate(side: int, *, dtype: Any = jnp.float32, repeats: int = 5) -> float:
    """FLOP/s of a product of square matrices, the best of some on the first device."""
    square, product = jnp.ones((side, side), dtype), jax.jit(jnp.matmul)
    jax.block_until_ready(product(square, square))
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(product(square, square))
        seconds.append(time.perf_counter() - begin)
    return 2 * side**3 / min(seconds)


# Rows -----------------------------------------------------------------------------------------


def step_row(experiment: Experiment, where: Target) -> Row:
    """The training step, of as many images as a batch has."""
    experiment, mesh = _placed(experiment, where)
    lower = lambda: programs.make_step(experiment, mesh).lower(
        _key(mesh), programs.abstract_state(experiment, mesh), programs.abstract_batch(experiment, mesh)
    )
    return _row("training step", experiment, mesh, where, experiment.config.batch, lower)


def sampler_row(experiment: Experiment, name: str, where: Target) -> Row:
    """A sampler from beginning to end, for as many images as are drawn at a time."""
    experiment, mesh = _placed(experiment, where)
    wanted = min(experiment.config.sample_batch, experiment.config.samples)
    rows = -(-wanted // mesh.size) * mesh.size
    params = programs.abstract_state(experiment, mesh).ema
    start = jax.ShapeDtypeStruct((), jnp.int32, sharding=sharding.replicated(mesh))
    lower = lambda: programs.make_sampler(experiment, name, mesh, rows).lower(params, _key(mesh), start)
    return _row(f"sampler {name}", experiment, mesh, where, rows, lower)


def _placed(experiment: Experiment, where: Target) -> tuple[Experiment, jax.sharding.Mesh]:
    # The options of an experiment are for this machine's compiler.
    options = experiment.compiler_options if where.local else None
    experiment = experiment._replace(compiler_options=options)
    return experiment, programs.mesh_of(experiment.config, where.devices)


def _key(mesh) -> jax.ShapeDtypeStruct:
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=sharding.replicated(mesh))


def _row(program: str, experiment: Experiment, mesh, where: Target, images: int, lower) -> Row:
    params = jax.eval_shape(experiment.init, jax.random.key(0))
    row = {
        "program": program,
        "topology": where.name,
        "chip": where.chip.name,
        "chips": mesh.size,
        "data": mesh.shape["data"],
        "fsdp": mesh.shape["fsdp"],
        "images": images,
        "parameters": plan.parameters(params),
        "chip_memory": where.chip.memory_bytes,
    }
    begin = time.monotonic()
    try:
        compiled = where.compile(lower())
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return row | {"needs": _needed(str(error)), "compile_seconds": time.monotonic() - begin}
    row["compile_seconds"] = time.monotonic() - begin
    return row | described(plan.cost(compiled), where.chip, images)


def _needed(message: str) -> float | None:
    """Bytes of main memory that the compiler says a program needs, which does not fit."""
    units = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    found = re.search(r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm", message)
    return found and float(found[1]) * units[found[2]]


def described(cost: plan.Cost, chip: plan.Chip, images: int) -> Row:
    """What one run costs a chip, and the bounds that follow, for so many images on all chips."""
    bound = plan.roofline(cost, chip)
    alike = Counter(collective._replace(bytes=0) for collective in cost.collectives)
    grouped = [
        {
            "kind": kind.kind,
            "count": count,
            "times": kind.times,
            "group": kind.group,
            "overlapped": kind.overlapped,
            "bytes": kind.times * sum(c.bytes for c in cost.collectives if c._replace(bytes=0) == kind),
        }
        for kind, count in alike.items()
    ]
    return {
        "flops": cost.products,
        "peaks": {kind: chip.peak(kind) for kind in cost.products},
        "elementwise": cost.elementwise,
        "bytes": cost.bytes,
        "memory": cost.memory and cost.memory._asdict() | {"total": cost.memory.total},
        "donations": cost.donations,
        "collectives": grouped,
        "wire_bytes": cost.wire_bytes,
        "unknown_loops": cost.unknown_loops,
        "seconds": bound._asdict(),
        "binds": bound.binds,
        "images_per_second": images / bound.seconds if bound.seconds else None,
        "utilisation": bound.utilisation,
    }

"""Compiles an experiment's programs for devices that need not be present, and estimates their cost.

A row is a dictionary that describes one program on one mesh, for the tables and the JSON file.
"""

import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from experiments.common import timing
from jaxscore import plan
from jaxscore.launch import programs
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.flags import FlagError

Row = dict[str, Any]


class Target(NamedTuple):
    """Devices, the properties of their kind, and a function that compiles for them."""

    name: str
    devices: list
    chip: plan.Chip
    compile: Callable[[jax.stages.Lowered], jax.stages.Compiled]
    local: bool
    """True if the devices are present."""


def target(name: str, *, effort: float, side: int = 2048) -> Target:
    """Target for a name of --topology: the local devices for "cpu", "gpu" or "tpu", otherwise a TPU slice.

    Args:
        name: the name.
        effort: compiler effort for a TPU slice, from -1 to 1.
        side: side of the matrices whose product measures the speed of an unknown local device.

    Raises:
        FlagError: if there are no such devices, or if libtpu is needed but not installed.
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
        # Simulated devices share one processor, so each has only a part of the measured speed.
        seconds = min(timing.rounds({"product": timing.product(side)}, 5)["product"])
        found = plan.measured(kind, 2 * side**3 / seconds / len(devices))
    limit = (devices[0].memory_stats() or {}).get("bytes_limit")
    return found._replace(memory_bytes=limit or found.memory_bytes)


# Rows -----------------------------------------------------------------------------------------


def step_row(experiment: Experiment, where: Target) -> Row:
    """Row of the training step, for one batch of images."""
    experiment, mesh = _placed(experiment, where)
    lower = lambda: (programs.lower_step(experiment, mesh), experiment.config.batch)
    return _row("training step", experiment, mesh, where, lower)


def sampler_row(experiment: Experiment, name: str, where: Target) -> Row:
    """Row of a whole sampler, for the images that it draws at a time."""
    experiment, mesh = _placed(experiment, where)
    lower = lambda: programs.lower_sampler(experiment, name, mesh)
    return _row(f"sampler {name}", experiment, mesh, where, lower)


def _placed(experiment: Experiment, where: Target) -> tuple[Experiment, jax.sharding.Mesh]:
    # The compiler options of an experiment are valid for this machine's compiler only.
    options = experiment.compiler_options if where.local else None
    experiment = experiment._replace(compiler_options=options)
    return experiment, programs.mesh_of(experiment.config, where.devices)


def _row(program: str, experiment: Experiment, mesh, where: Target, lower) -> Row:
    params = jax.eval_shape(experiment.init, jax.random.key(0))
    begin = time.monotonic()
    lowered, images = lower()
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
    try:
        compiled = where.compile(lowered)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return row | {"needs": _needed(str(error)), "compile_seconds": time.monotonic() - begin}
    row["compile_seconds"] = time.monotonic() - begin
    return row | described(plan.cost(compiled), where.chip, images)


def _needed(message: str) -> float | None:
    """Bytes of device memory that a program needs, read from the compiler's message that it does not fit.

    Returns None if the message has no number.
    """
    units = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    found = re.search(r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm", message)
    return found and float(found[1]) * units[found[2]]


def _memory(memory: plan.Memory | None) -> dict[str, float] | None:
    if memory is None:  # the compiler does not report it
        return None
    return memory._asdict() | {"kept": memory.outputs - memory.donated, "total": memory.total}


def described(cost: plan.Cost, chip: plan.Chip, images: int) -> Row:
    """Entries of a row for the cost of one run on a chip, and for the bounds by the roofline model.

    `images` is the number of images on all chips together.
    """
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
        "memory": _memory(cost.memory),
        "donations": cost.donations,
        "collectives": grouped,
        "wire_bytes": cost.wire_bytes,
        "unknown_loops": cost.unknown_loops,
        "seconds": bound._asdict(),
        "binds": bound.binds,
        "images_per_second": images / bound.seconds if bound.seconds else None,
        "utilisation": bound.utilisation,
    }

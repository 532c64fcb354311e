"""The cost of an experiment on a TPU slice, computed without a TPU.

    python -m experiments.plan --experiment ncsn --preset cifar10 --topology v5e:16x16 --batch-size 16384
    python -m experiments.plan --preset cifar10 --channels 256 --sweep

Compiles the experiment's own training step and samplers for the slice, with libtpu's compiler. Prints the
operations, the memory per chip, the exchanges, and a lower bound of the time by the roofline model. The plan
covers data-parallel and fully sharded training. `--topology cpu` or `gpu` uses the devices of this machine.
Flags that `--help` does not list are passed to the experiment.
"""

import dataclasses
import itertools
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import jax
from msgspec import Meta

from experiments.plan import programs, recipes, report
from experiments.plan.programs import Row, Target
from jaxscore import launch
from jaxscore.launch import console, flags, workdir
from jaxscore.launch.config import Config as ExperimentConfig
from jaxscore.launch.config import Mesh

SLICES = {
    "v4": ("v4:2x2x1", "v4:2x2x4", "v4:4x4x4", "v4:4x4x16"),
    "v5e": ("v5e:2x2", "v5e:4x4", "v5e:8x8", "v5e:16x16"),
    "v5p": ("v5p:2x2x1", "v5p:2x2x4", "v5p:4x4x4", "v5p:4x4x16"),
    "v6e": ("v6e:2x2", "v6e:4x4", "v6e:8x8", "v6e:16x16"),
}
"""Slices of a sweep over a single kind of chip: 4 to 256 chips."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Cost of an experiment on a TPU slice; flags that are not listed here are passed to the experiment."""

    experiment: str = "ncsn"
    """Experiment; an unknown name lists the known ones."""
    preset: str | None = None
    """Recipe with the defaults of the experiment's flags; an unknown name lists the known ones."""
    topology: tuple[str, ...] = ("v5e:4x4",)
    """TPU slices, such as v5e:16x16 or v5p:4x4x4; cpu, gpu or tpu for the devices of this machine."""
    batch_size: tuple[flags.Count, ...] = ()
    """Numbers of images in a training step, over all chips; by default the experiment's batch."""
    fsdp: tuple[int, ...] = (1, -1)
    """Numbers of chips over which each copy of the state is split: 1 is data parallel, -1 is all chips."""
    samplers: bool = True
    """Compile the samplers too; a sweep does not."""
    effort: Annotated[float, Meta(ge=-1, le=1)] = -1.0
    """Effort of the compiler, -1 to 1; at 0 it takes ten times as long and overlaps exchanges."""
    sweep: bool = False
    """Tabulate and draw all given slices, batch sizes and meshes; by default slices of 4 to 256 chips."""
    out: Path | None = None
    """JSON file for the figures; the picture of a sweep is written beside it."""

    def __post_init__(self):
        flags.check(self)
        for size in self.fsdp:
            flags.require(size == -1 or size >= 1, "fsdp", size, "must be -1, or at least 1")
        flags.require(bool(self.topology), "topology", "", "needs a value")
        flags.require(bool(self.fsdp), "fsdp", "", "needs a value")


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Returns the flags of this module and the flags of the experiment, with their values."""
    names = {field.name.replace("_", "-") for field in dataclasses.fields(Config)}
    names |= {"no-samplers", "no-sweep", "help"}
    parts: tuple[list[str], list[str]] = [], []
    mine = True
    for argument in arguments:
        if argument.startswith("--"):
            mine = argument[2:].split("=")[0].replace("_", "-") in names
        parts[not mine].append(argument)
    return parts


def main() -> None:
    """Parses the flags, compiles and prints. Bad input is one line on standard error and exit status 2."""
    with launch.one_line_errors():
        mine, others = split(sys.argv[1:])
        config = flags.parse(Config(), mine)
        recipe, defaults = recipes.recipe(config.experiment, config.preset)
        run(config, recipe, flags.parse(defaults, others))


def run(config: Config, recipe: recipes.Recipe, chosen: ExperimentConfig) -> list[Row]:
    """Compiles and prints; returns the rows and writes them to `config.out` if it is given.

    Raises:
        FlagError: for flags that the slice or the experiment cannot have.
    """
    if not {"gpu", "tpu"} & set(config.topology) and "JAX_PLATFORMS" not in os.environ:
        jax.config.update("jax_platforms", "cpu")  # do not occupy a local accelerator that is not used
    many = len(config.topology) > 1 or len(config.batch_size) > 1
    rows = swept(config, recipe, chosen) if config.sweep or many else planned(config, recipe, chosen)
    if config.out:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        described = workdir.describe(config.experiment, chosen)
        workdir.write_json(config.out, {"experiment": described, "effort": config.effort, "programs": rows})
        console.say(f"figures: {config.out}")
    return rows


def planned(config: Config, recipe: recipes.Recipe, chosen: ExperimentConfig) -> list[Row]:
    """Returns rows for the step and the samplers on one slice, and prints all figures."""
    where = programs.target(config.topology[0], effort=config.effort)
    rows = []
    for placed in meshes(config, chosen, where, *config.batch_size):
        experiment = recipe.build(placed)
        rows.append(programs.step_row(experiment, where))
        names = experiment.samplers if config.samplers else ()
        rows.extend(programs.sampler_row(experiment, name, where) for name in names)
    rows.sort(key=lambda row: row["program"] != "training step")
    effort = None if where.local else config.effort
    console.say(f"{where.name}: {len(where.devices)} x {where.chip.name}; meshes are data x fsdp\n")
    console.say(f"{report.table(rows)}\n\n{report.exchanges(rows)}\n")
    for note in report.notes(where.chip, rows, effort=effort):
        console.say(note)
    return rows


def swept(config: Config, recipe: recipes.Recipe, chosen: ExperimentConfig) -> list[Row]:
    """Returns rows for the step on every slice, batch size and mesh; leaves out the impossible ones."""
    names = config.topology
    if len(names) == 1:
        names = SLICES.get(names[0].split(":")[0], names)
    rows = []
    for name, size in itertools.product(names, config.batch_size or (chosen.batch,)):
        where = programs.target(name, effort=config.effort)
        try:
            for placed in meshes(config, chosen, where, size):
                rows.append(programs.step_row(recipe.build(placed), where))
                console.say(f"{name}, batch {size}, mesh {report.mesh(rows[-1])}: {_told(rows[-1])}")
        except flags.FlagError as error:
            console.say(f"{name}, batch {size}: {error}; left out")
    flags.require(bool(rows), "batch-size", "", "no slice can have such a batch; name others")
    console.say(f"\n{report.sweep_table(rows)}\n")
    if config.out:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        picture = config.out.with_suffix(".png")
        report.picture(rows, picture)
        console.say(f"picture: {picture}")
    return rows


def meshes(config: Config, chosen: ExperimentConfig, where: Target, *batch: int) -> list[ExperimentConfig]:
    """Returns the configuration with this batch on every mesh of --fsdp, or on its own mesh if it has one."""
    chosen = dataclasses.replace(chosen, **({"batch": batch[0]} if batch else {}))
    if chosen.mesh != Mesh():
        return [chosen]
    n = len(where.devices)
    sizes = dict.fromkeys(n if size == -1 else size for size in config.fsdp)
    for size in sizes:
        flags.require(n % size == 0, "fsdp", size, f"must divide the {n} chips of {where.name}")
    return [dataclasses.replace(chosen, mesh=Mesh(fsdp=size)) for size in sizes]


def _told(row: dict[str, Any]) -> str:
    what = "compiled" if "flops" in row else "does not fit; compiled"
    return f"{what} in {row['compile_seconds']:.0f} s"

"""Speed: training and sampling of named workloads, as rates and as ratios that carry over.

    python -m experiments.bench
    python -m experiments.bench --workloads cifar10 cifar10_bfloat16 --out bench.json

Random images stand in for data sets. Figures of several runs have their quartiles.
"""

import dataclasses
import platform
from pathlib import Path
from typing import Any

import jax

from experiments.bench import sampling, scaling, training, workloads
from experiments.bench.timing import Spread
from jaxscore import launch
from jaxscore.launch import console, flags, workdir

Results = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is timed, and how often."""

    workloads: tuple[str, ...] = ("digits", "ncsnv2", "unet")
    """Networks and recipes; an unknown name lists those that are known."""
    batch: int = 1797
    """Samples drawn at a time, for the ratios of the samplers."""
    repeats: int = 9
    """Timings of each thing, whose quartiles are shown; the things are timed in turn."""
    matrix: int = 2048
    """Side of the square matrices whose product sets the scale."""
    scaling: tuple[str, ...] = ("digits",)
    """Workloads whose steps are compiled for 1 to 8 simulated devices, to see what these exchange."""
    out: Path | None = None
    """A JSON file for the figures, if wanted."""

    def __post_init__(self):
        for name in ("batch", "repeats", "matrix"):
            flags.require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        known = workloads.WORKLOADS
        for name in ("workloads", "scaling"):
            for value in getattr(self, name):
                flags.require(value in known, name, value, f"is not known; use {', '.join(known)}")


def main() -> None:
    """Print the figures, and write them if asked."""
    with launch.one_line_errors():
        measure(flags.parse(Config()))


def measure(config: Config) -> Results:
    """All of it, as one table; returns the figures."""
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    versions = {"jax": jax.__version__, "python": platform.python_version()}
    figures: Results = sampling.ratios(config.batch, config.repeats)
    for name in config.workloads:
        workload = workloads.WORKLOADS[name]()
        found = training.measure(workload, repeats=config.repeats, side=config.matrix)
        found |= sampling.measure(workload, repeats=config.repeats)
        figures |= {f"{name}: {what}": value for what, value in found.items()}
    sent = {name: scaling.measure(name) for name in config.scaling}
    described = ", ".join(f"{name} {version}" for name, version in versions.items())
    described += f"; {config.repeats} runs of each, 5 of saves"
    heading = ("", device, "quartiles")
    console.say(f"{described}\n\n{console.table([heading, *(cells(*pair) for pair in figures.items())])}")
    for name, rows in sent.items():
        console.say(f"\n{scaling_table(name, rows)}")
    if config.out:
        plain = {k: v._asdict() if isinstance(v, Spread) else v for k, v in figures.items()}
        found = {"device": device, **versions, "figures": plain, "scaling": sent}
        workdir.write_json(config.out, found)
    return figures


def cells(name: str, value: float | Spread) -> tuple[str, str, str]:
    """A row of the table."""
    if isinstance(value, Spread):
        return name, f"{value.median:,.3f}", f"{value.low:,.3f}..{value.high:,.3f}"
    return name, f"{value:,.3f}", ""


def scaling_table(name: str, rows: list[dict[str, Any]]) -> str:
    """What a device sends per step, in MB, against the number of devices."""
    heading = (f"{name}: MB that a device sends per step", "data parallel", "fully sharded")
    sent = {(row["devices"], row["fsdp"] > 1): f"{row['sent_bytes'] / 1e6:,.3f}" for row in rows}
    lines = [(f"{n} devices", sent[n, False], sent.get((n, True), sent[n, False])) for n in scaling.DEVICES]
    return console.table([heading, *lines])

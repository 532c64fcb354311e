"""Speed of training and sampling: absolute rates, and ratios that hold on other machines too.

    python -m experiments.bench
    python -m experiments.bench --workloads cifar10 cifar10_bfloat16 --out bench.json

Random images replace the data sets. A result that is measured several times is a median with its quartiles.
"""

import dataclasses
import platform
from pathlib import Path
from typing import Any

import jax

from experiments.bench import sampling, scaling, training, workloads
from experiments.common.timing import Spread
from jaxscore.launch import console, flags, workdir
from jaxscore.launch.flags import Count

Results = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Speed of training and sampling: absolute rates, and ratios that hold on other machines too."""

    workloads: tuple[str, ...] = ("digits", "ncsnv2", "ddpmpp", "adm", "edm2", "dit")
    """Experiments to time; an unknown name lists the known ones."""
    batch: Count = 1797
    """Samples in a batch, for the ratios of the samplers."""
    repeats: Count = 9
    """Runs of each program; the table shows their median and quartiles."""
    matrix: Count = 2048
    """Side of the square matrices whose product is the reference for speed."""
    scaling: tuple[str, ...] = ("digits",)
    """Workloads whose traffic between 1 to 8 simulated devices is measured."""
    out: Path | None = None
    """JSON file for the results; none by default."""

    def __post_init__(self):
        flags.check(self)
        known = workloads.WORKLOADS
        for name in ("workloads", "scaling"):
            for value in getattr(self, name):
                flags.require(value in known, name, value, f"is not known; use {', '.join(known)}")


def measure(config: Config) -> Results:
    """Returns all results by name; prints them as a table and writes them to `config.out` if it is given."""
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    versions = {"jax": jax.__version__, "python": platform.python_version()}
    results: Results = sampling.ratios(config.batch, config.repeats)
    for name in config.workloads:
        workload = workloads.WORKLOADS[name]()
        found = training.measure(workload, repeats=config.repeats, side=config.matrix)
        found |= sampling.measure(workload, repeats=config.repeats)
        results |= {f"{name}: {what}": value for what, value in found.items()}
    sent = {name: scaling.measure(name) for name in config.scaling}
    described = ", ".join(f"{name} {version}" for name, version in versions.items())
    described += f"; {config.repeats} runs of each, 5 of saves"
    heading = ("", device, "quartiles")
    console.say(f"{described}\n\n{console.table([heading, *(cells(*pair) for pair in results.items())])}")
    for name, rows in sent.items():
        console.say(f"\n{scaling_table(name, rows)}")
    if config.out:
        plain = {k: v._asdict() if isinstance(v, Spread) else v for k, v in results.items()}
        workdir.write_json(config.out, {"device": device, **versions, "figures": plain, "scaling": sent})
    return results


def cells(name: str, value: float | Spread) -> tuple[str, str, str]:
    """Row of the table: name, value and quartiles."""
    if isinstance(value, Spread):
        return name, f"{value.median:,.3f}", f"{value.low:,.3f}..{value.high:,.3f}"
    return name, f"{value:,.3f}", ""


def scaling_table(name: str, rows: list[dict[str, Any]]) -> str:
    """Table of the MB that one device sends in a step, with a row for each number of devices."""
    heading = (f"{name}: MB that a device sends per step", "data parallel", "fully sharded")
    sent = {(row["devices"], row["fsdp"] > 1): f"{row['sent_bytes'] / 1e6:,.3f}" for row in rows}
    lines = [(f"{n} devices", sent[n, False], sent.get((n, True), sent[n, False])) for n in scaling.DEVICES]
    return console.table([heading, *lines])

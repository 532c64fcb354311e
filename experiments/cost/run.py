"""Time and memory of one training step for each objective, as functions of the dimension D of the data.

    python -m experiments.cost

The lecture calls implicit score matching "complex due to the Hessian". Its trace takes D forward-mode
products; slices, finite differences and denoising take one or two evaluations. This program measures the
seconds and the temporary memory of a jitted training step (loss, gradient, Adam) with the same network for
all objectives. It prints tables, writes cost.json, and draws both over D with the exponents of their growth.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.common import timing
from experiments.cost import steps
from experiments.cost.steps import AT_ONCE, DENOISING, FINITE_DIFFERENCE, IMPLICIT, SLICED
from jaxscore.launch import console, flags, plots, workdir
from jaxscore.launch.flags import Count, Positive

FIT_FROM = 256
"""Smallest D in the fits of the exponents; below it, most of a step's time does not depend on D."""

COLORS = {
    DENOISING: plots.GREY,
    FINITE_DIFFERENCE: "#3c9d6b",
    SLICED: plots.ORANGE,
    IMPLICIT: plots.BLUE,
    AT_ONCE: "#8fb4de",
}
"""Objectives and their colours. IMPLICIT handles the basis vectors in chunks, AT_ONCE all of them at once."""

QUANTITIES = {"seconds": "seconds a training step", "temporary_bytes": "temporary memory, MB"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Time and memory of one training step for each objective, as functions of the dimension of the data."""

    workdir: Path = Path("runs/cost")
    """Folder for cost.json and cost.png."""
    sizes: tuple[Count, ...] = (2, 4, 16, 64, 256, 784, 1024, 4096)
    """Dimensions D of the data."""
    width: Count = 256
    """Width of the network, a residual MLP with two blocks."""
    batch: Count = 64
    """Examples in a training step."""
    repeats: Count = 40
    """Runs of each step, of which the median is taken; a step that takes seconds is run less often."""
    probes: Count = 1
    """Random directions for slices and for finite differences."""
    memory_limit_gb: Positive = 4.0
    """Skip a step with an exact trace if it needs more memory than this."""
    seconds_limit: Positive = 60.0
    """Skip a step with an exact trace if it would take longer, estimated from a smaller D."""

    def __post_init__(self):
        flags.check(self)
        flags.require(len(self.sizes) >= 1, "sizes", "", "needs at least one number")


def measure(config: Config) -> list[dict[str, Any]]:
    """A row for each D and objective: median seconds, ratio to denoising with its quartiles, and memory."""
    rows, last = [], {}
    for size in sorted(set(config.sizes)):
        begin = time.monotonic()
        compiled = steps.compiled(config, size)
        exact = [name for name in (IMPLICIT, AT_ONCE) if name in compiled]
        why = {name: steps.left_out(config, size, compiled[name], last.get(name)) for name in exact}
        jobs = {name: step.run for name, step in compiled.items() if not why.get(name)}
        seconds = steps.timings(jobs, config.repeats)
        for name, step in compiled.items():
            row = {"objective": name, "size": size, "compile_seconds": step.compile_seconds}
            row |= {"temporary_bytes": step.temporary_bytes, "left_out": why.get(name) or None}
            if name in jobs:
                row |= timed(seconds[name], seconds[DENOISING])
                last[name] = size, row["seconds"]
            else:
                console.say(f"D = {size}, {name}: {why[name]}; left out")
            rows.append(row)
        console.say(f"D = {size}: done in {time.monotonic() - begin:.0f} s")
    return rows


def timed(values: list[float], reference: list[float]) -> dict[str, Any]:
    """Median seconds, and the median and quartiles of the ratio to the reference."""
    # A slow moment affects all jobs of a round, so ratios are taken within rounds if both ran in all rounds.
    paired = len(values) == len(reference)
    ratio = timing.spread(np.asarray(values) / (np.asarray(reference) if paired else np.median(reference)))
    seconds = {"seconds": float(np.median(values)), "runs": len(values)}
    return seconds | {"ratio": ratio.median, "ratio_quartiles": [ratio.low, ratio.high]}


def exponent(rows: list[dict], objective: str, quantity: str) -> float | None:
    """Exponent a of quantity ~ D^a, by least squares on the logarithms for D >= FIT_FROM.

    Returns None if there are fewer than two such D.
    """
    line = [row for row in rows if row["objective"] == objective and row["size"] >= FIT_FROM]
    points = [(row["size"], row[quantity]) for row in line if row.get(quantity)]
    return float(np.polyfit(*np.log(points).T, 1)[0]) if len(points) > 1 else None


def product_gflops(side: int = 2048) -> float:
    """GFLOP/s of a product of square float32 matrices on this machine."""
    seconds = timing.median_seconds({"product": timing.product(side)}, 9)["product"]
    return 2 * side**3 / seconds / 1e9


# Tables and picture -------------------------------------------------------------------------------


def tables(rows: list[dict], powers: dict[str, dict[str, float | None]]) -> str:
    """Milliseconds, ratios and memory for every D and objective, then the exponents."""
    cells = {
        "milliseconds": lambda row: f"{1e3 * row['seconds']:.2f}" if "seconds" in row else "left out",
        "time / denoising (quartiles)": _ratio,
        "temporary MB": lambda row: f"{row['temporary_bytes'] / 1e6:.1f}",
    }
    names = [name for name in COLORS if any(row["objective"] == name for row in rows)]
    parts = []
    for heading, cell in cells.items():
        at = {(row["size"], row["objective"]): cell(row) for row in rows}
        sizes = sorted({size for size, _ in at})
        lines = [(f"D = {size}", *(at.get((size, name), "") for name in names)) for size in sizes]
        parts.append(console.table([(heading, *names), *lines]))
    show = lambda value: "" if value is None else f"{value:.2f}"
    lines = [(name, *(show(powers[quantity][name]) for quantity in QUANTITIES)) for name in names]
    parts.append(console.table([(f"exponent of D >= {FIT_FROM}", "seconds", "memory"), *lines]))
    return "\n\n".join(parts)


def _ratio(row: dict) -> str:
    if "ratio" not in row:
        return "left out"
    low, high = row["ratio_quartiles"]
    return f"{row['ratio']:.2f} ({low:.2f}..{high:.2f})" if low < high else f"{row['ratio']:.2f}"


def picture(
    rows: list[dict], powers: dict[str, dict[str, float | None]], limit_gb: float, path: Path
) -> None:
    """Draws seconds and memory over D on logarithmic axes, with the exponents in the legend."""
    with plots.page(path, columns=2, size=5.6, height=4.6) as (seconds, memory):
        for axes, (quantity, label) in zip((seconds, memory), QUANTITIES.items(), strict=True):
            unit = 1e6 if quantity == "temporary_bytes" else 1.0
            for name, color in COLORS.items():
                line = [r for r in rows if r["objective"] == name and r.get(quantity)]
                power = powers[quantity][name]
                x, y = [r["size"] for r in line], [r[quantity] / unit for r in line]
                text = name if power is None else f"{name}: D^{power:.2f}"
                axes.plot(x, y, "o-", markersize=4, color=color, label=text if line else None)
            axes.set(xscale="log", yscale="log", xlabel="dimension D", ylabel=label)
            axes.legend(fontsize=8, loc="upper left", title=f"exponents: D ≥ {FIT_FROM}", title_fontsize=8)
        seconds.set_title(
            "the exact trace: D products;\na slice, a difference, denoising: one or two", fontsize=10
        )
        memory.set_title(
            "in chunks the trace has bounded memory;\nabove the dotted line: not run", fontsize=10
        )
        memory.axhline(1e3 * limit_gb, color=plots.GREY, linewidth=0.8, linestyle=":")


def run(config: Config) -> dict[str, Any]:
    """Returns the results; prints them as tables and writes cost.json and cost.png into the workdir."""
    with workdir.owned(config.workdir, workdir.describe("cost", config)):
        device = jax.devices()[0].device_kind
        console.say(f"one {device}, network of width {config.width}, batch {config.batch}")
        rows = measure(config)
        powers = {what: {name: exponent(rows, name, what) for name in COLORS} for what in QUANTITIES}
        scale = product_gflops()
        found = {"device": device, "matrix product, GFLOP/s": scale, "exponents": powers, "rows": rows}
        workdir.write_json(config.workdir / "cost.json", found)
        picture(rows, powers, config.memory_limit_gb, config.workdir / "cost.png")
        console.say(f"\n{tables(rows, powers)}\n\na matrix product here: {scale:.0f} GFLOP/s")
        console.say(f"table: {config.workdir / 'cost.json'}\npicture: {config.workdir / 'cost.png'}")
    return found

"""Time and memory of one training step against the dimension D, objective by objective.

    python -m experiments.cost

The lecture calls implicit score matching "complex due to the Hessian": its trace takes D forward-mode
products, where slices, finite differences and denoising take one or two evaluations. Here that is
measured, with one network for all: seconds and temporary memory of a jitted training step (loss,
gradient, Adam), printed, written to cost.json, and drawn over D with the exponents of their growth.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import timing
from experiments.cost import steps
from experiments.cost.steps import AT_ONCE, DENOISING, FINITE_DIFFERENCE, IMPLICIT, SLICED
from jaxscore import launch
from jaxscore.launch import console, flags, plots, workdir

FIT_FROM = 256
"""The exponents are fitted from this D on: below, a step's time is what does not depend on D."""

COLORS = {
    DENOISING: plots.GREY,
    FINITE_DIFFERENCE: "#3c9d6b",
    SLICED: plots.ORANGE,
    IMPLICIT: plots.BLUE,
    AT_ONCE: "#8fb4de",
}
"""What is measured: `implicit` is the library's, in chunks of basis vectors; then all of them at once."""

QUANTITIES = {"seconds": "seconds a training step", "temporary_bytes": "temporary memory, MB"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Time and memory of one training step against the dimension, objective by objective."""

    workdir: Path = Path("runs/cost")
    """Folder for cost.json and cost.png."""
    sizes: tuple[int, ...] = (2, 4, 16, 64, 256, 784, 1024, 4096)
    """The dimensions D of the data."""
    width: int = 256
    """Width of the network, a residual MLP of two blocks."""
    batch: int = 64
    """Examples in a step."""
    repeats: int = 40
    """Timings of each step, of which the median counts; a step of seconds is timed less often."""
    probes: int = 1
    """Random directions of slices and of finite differences."""
    memory_limit_gb: float = 4.0
    """A step with an exact trace that needs more memory than this is not run."""
    seconds_limit: float = 60.0
    """A step with an exact trace that would take longer, to judge by a smaller D, is not run."""

    def __post_init__(self):
        flags.require_finite(self)
        flags.require(len(self.sizes) >= 1, "sizes", "", "needs at least one number")
        for size in self.sizes:
            flags.require(size >= 1, "sizes", size, "must be at least 1")
        for name in ("width", "batch", "repeats", "probes"):
            flags.require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        for name in ("memory_limit_gb", "seconds_limit"):
            flags.require(getattr(self, name) > 0, name, getattr(self, name), "must be positive")


def measure(config: Config) -> list[dict[str, Any]]:
    """A row for each D and objective: median seconds, ratio to denoising and its quartiles, memory."""
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
    """Median seconds, and the median and the quartiles of the ratio to the reference."""
    # Round by round where both were run in all of them: what slows down a round slows down both.
    paired = len(values) == len(reference)
    ratios = np.asarray(values) / (np.asarray(reference) if paired else np.median(reference))
    low, middle, high = (float(q) for q in np.quantile(ratios, (0.25, 0.5, 0.75)))
    seconds = {"seconds": float(np.median(values)), "runs": len(values)}
    return seconds | {"ratio": middle, "ratio_quartiles": [low, high]}


def exponent(rows: list[dict], objective: str, quantity: str) -> float | None:
    """a of quantity ~ D^a, by least squares through the logarithms, D >= FIT_FROM; None of one D."""
    line = [row for row in rows if row["objective"] == objective and row["size"] >= FIT_FROM]
    points = [(row["size"], row[quantity]) for row in line if row.get(quantity)]
    return float(np.polyfit(*np.log(points).T, 1)[0]) if len(points) > 1 else None


def product_gflops(side: int = 2048) -> float:
    """GFLOP/s of a product of square float32 matrices, for the scale."""
    square, product = jnp.ones((side, side)), jax.jit(jnp.matmul)
    seconds = timing.median_seconds({"product": lambda: product(square, square)}, 9)["product"]
    return 2 * side**3 / seconds / 1e9


# What is shown ------------------------------------------------------------------------------------


def tables(rows: list[dict], powers: dict[str, dict[str, float | None]]) -> str:
    """Milliseconds, ratios and memory for every D and objective, and the exponents."""
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
    """Seconds and memory against D, both logarithmic, with the exponents in the legend."""
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


def main() -> None:
    """Parse flags and run."""
    with launch.one_line_errors():
        config = flags.parse(Config())
        with launch.one_line_errors(config.workdir):
            run(config)


def run(config: Config) -> dict[str, Any]:
    """Print the tables; write config.json, cost.json and cost.png into the workdir. Returns the figures."""
    description = workdir.describe("cost", config)
    workdir.claim(config.workdir, description)
    workdir.write_json(config.workdir / "config.json", description)
    device = jax.devices()[0].device_kind
    console.say(f"one {device}, network of width {config.width}, batch {config.batch}")
    rows = measure(config)
    powers = {quantity: {name: exponent(rows, name, quantity) for name in COLORS} for quantity in QUANTITIES}
    scale = product_gflops()
    found = {"device": device, "matrix product, GFLOP/s": scale, "exponents": powers, "rows": rows}
    workdir.write_json(config.workdir / "cost.json", found)
    picture(rows, powers, config.memory_limit_gb, config.workdir / "cost.png")
    console.say(f"\n{tables(rows, powers)}\n\na matrix product here: {scale:.0f} GFLOP/s")
    console.say(f"table: {config.workdir / 'cost.json'}\npicture: {config.workdir / 'cost.png'}")
    return found

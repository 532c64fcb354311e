"""The lecture's two theorems, and what follows from them, as numbers and a picture.

    python -m experiments.theorems

Hyvarinen's: explicit - implicit score matching is a constant, which no parameter enters.
Vincent's: so is explicit score matching at p_sigma - denoising score matching. Along lines through the
parameters of several models, on several densities, the differences are held against a constant, and
the gradients against each other. Sliced score matching is held against implicit, for its bias and its
variance; and what denoising score matching learns at sigma against the score of the data themselves.
Every row of theorems.json has an estimate and its standard error.
"""

import dataclasses
import statistics
from pathlib import Path

import numpy as np

from experiments.theorems import rows
from jaxscore import launch
from jaxscore.launch import console, flags, plots, workdir


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """How many draws, and at which noise level."""

    workdir: Path = Path("runs/theorems")
    """Folder for theorems.json and theorems.png."""
    seed: int = 0
    """The root of all randomness."""
    blocks: int = 100
    """Independent blocks of draws; standard errors come from the scatter of their means."""
    draws: int = 2000
    """Draws from the density in each block."""
    sigma: float = 0.6
    """The noise level of denoising score matching, in Vincent's theorem."""
    thetas: int = 5
    """Models on the line through each family."""

    def __post_init__(self):
        flags.require_finite(self)
        flags.require(self.sigma > 0, "sigma", self.sigma, "must be positive")
        flags.require(self.thetas >= 2, "thetas", self.thetas, "must be at least 2, to compare")
        flags.require(self.blocks >= 10, "blocks", self.blocks, "must be at least 10, for a standard error")
        flags.require(self.draws >= 100, "draws", self.draws, "must be at least 100")


def table(rows: list[dict]) -> list[tuple[str, ...]]:
    """For each quantity, objective and pair: the row furthest from 0, and the largest standard error."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        if "errors_off" in row:
            groups.setdefault((row["quantity"], row["objective"], row["pair"]), []).append(row)
    lines = [("", "", "rows", "furthest", "in errors", "error / objective")]
    for (quantity, objective, pair), members in groups.items():
        worst = max(members, key=lambda row: abs(row["errors_off"]))
        share = max(row["error_share"] for row in members)
        numbers = f"{worst['estimate']:+.5f}", f"{worst['errors_off']:+.2f}", f"{share:.2%}"
        lines.append((f"{objective}: {quantity}", pair, str(len(members)), *numbers))
    return lines


def summary(rows: list[dict]) -> list[tuple[str, str]]:
    """The figures that the theorems are judged by."""
    tested = [row for row in rows if "errors_off" in row]
    # How far the furthest of so many goes in one run of twenty; less far, being correlated.
    chance = statistics.NormalDist().inv_cdf((1 + 0.95 ** (1 / len(tested))) / 2)
    lines = [
        ("rows that should be 0", str(len(tested))),
        ("furthest of them, in standard errors", f"{max(abs(row['errors_off']) for row in tested):.2f}"),
        ("by chance below, in 19 runs of 20", f"{chance:.2f}"),
        ("largest standard error / objective", f"{max(row['error_share'] for row in tested):.2%}"),
    ]
    for kind in rows.SLICED:
        exponent = _exponent(rows, kind, "probes", "variance_estimate")
        lines.append((f"{kind}: variance ~ K to the power", f"{exponent:.3f}"))
    near = [row for row in rows if row.get("sigma", 1.0) < 0.15]
    exponent = _exponent(near, rows.EXACT, "sigma", "estimate")
    lines.append(("|s(x, sigma) - s(x)| ~ sigma, below 0.15, to the power", f"{exponent:.3f}"))
    best = min((row for row in rows if row["objective"] == rows.LEARNED), key=lambda r: r["estimate"])
    where = f"{best['estimate']:.4f} at sigma {best['sigma']:.3g}"
    return [("", ""), *lines, ("learnt by denoising, nearest to s(x)", where)]


def _exponent(rows: list[dict], objective: str, x: str, y: str) -> float:
    """a of y ~ x^a, by least squares through the logarithms."""
    points = [(row[x], row[y]) for row in rows if row["objective"] == objective and x in row]
    return float(np.polyfit(*np.log(points).T, 1)[0])


# The picture ----------------------------------------------------------------------------------

SHOWN = "mixture, network"
COLORS = {"implicit": plots.BLUE, "denoising": plots.ORANGE}


def picture(rows: list[dict], path: Path) -> None:
    """Objectives in parallel, their differences, the variance of slices, the limit of small noise."""
    with plots.page(path, columns=4, size=4.4, height=4.0) as (curves, constant, variance, limit):
        _curves(curves, rows)
        _differences(constant, rows)
        for kind, color in zip(rows.SLICED, COLORS.values(), strict=True):
            line = [r for r in rows if r["objective"] == kind and r["pair"] == SHOWN]
            variance.loglog(*_columns(line, "probes", "variance_estimate"), "o-", color=color, label=kind)
        variance.set(xlabel="probes K", ylabel="variance about the implicit objective")
        variance.set_title(
            f"sliced score matching ({SHOWN}):\nunbiased, its variance falls as 1/K", fontsize=10
        )
        variance.legend(fontsize=8)
        for kind, color in ((rows.EXACT, plots.GREY), (rows.LEARNED, plots.ORANGE)):
            x, y, error = _columns(
                [r for r in rows if r["objective"] == kind], "sigma", "estimate", "standard_error"
            )
            limit.errorbar(x, y, error, fmt="o-", markersize=3, color=color, label=kind.replace("sigma", "σ"))
        limit.set(xscale="log", yscale="log", xlabel="σ", ylabel="relative RMS distance from s(x)")
        limit.set_title(
            "s(x, σ) → s(x) as σ → 0, but what is learnt\nfrom a given number of draws gets noisier",
            fontsize=10,
        )
        limit.legend(fontsize=8)


def _columns(rows: list[dict], *names: str) -> np.ndarray:
    return np.asarray([[row[name] for name in names] for row in rows], float).T


def _curves(axes, rows: list[dict]) -> None:
    for objective, reference in rows.THEOREMS.items():
        for name, style in ((objective, "-"), (reference, ":")):
            line = [
                r for r in rows if r["quantity"] == "value" and (r["objective"], r["pair"]) == (name, SHOWN)
            ]
            x, y = _columns(line, "theta", "estimate")
            axes.plot(
                x,
                y,
                style,
                marker="o",
                markersize=3,
                color=COLORS[objective],
                label=name.replace("sigma", "σ"),
            )
    axes.set(xlabel="θ", ylabel="objective", xticks=np.linspace(-1, 1, 5))
    axes.set_title(f"the objectives along θ ({SHOWN}):\nin pairs, apart by a constant", fontsize=10)
    axes.legend(fontsize=8)


def _differences(axes, rows: list[dict]) -> None:
    rows = [row for row in rows if row["quantity"] == rows.CONSTANT]
    for objective, color in COLORS.items():
        found = [(i, row) for i, row in enumerate(rows) if row["objective"] == objective]
        percent = lambda row, name: 100 * row[name] * row["error_share"] / row["standard_error"]
        y = [percent(row, "estimate") for _, row in found]
        error = [3 * percent(row, "standard_error") for _, row in found]
        axes.errorbar(
            [i for i, _ in found],
            y,
            error,
            fmt="o",
            markersize=2.5,
            linewidth=1,
            color=color,
            label=objective,
        )
    axes.axhline(0, color=plots.GREY, linewidth=0.8)
    axes.set(xlabel="each model on each density", ylabel="% of the explicit objective", xticks=[])
    axes.set_title("explicit − the other, from its mean over θ,\nwith three standard errors", fontsize=10)
    axes.legend(fontsize=8)


def main() -> None:
    """Parse flags and run."""
    with launch.one_line_errors():
        config = flags.parse(Config())
        with launch.one_line_errors(config.workdir):
            run(config)


def run(config: Config) -> list[dict]:
    """Print the table; write theorems.json and theorems.png into the workdir. Returns the rows."""
    description = workdir.describe("theorems", config)
    workdir.claim(config.workdir, description)
    workdir.write_json(config.workdir / "config.json", description)
    found = rows.all_rows(config, console.say)
    workdir.write_json(config.workdir / "theorems.json", found)
    picture(found, config.workdir / "theorems.png")
    console.say("\n" + console.table(table(found)) + "\n\n" + console.table(summary(found)) + "\n")
    console.say(f"table: {config.workdir / 'theorems.json'}\npicture: {config.workdir / 'theorems.png'}")
    return found

"""Tests of the lecture's two theorems and of their consequences, as a table and a picture.

    python -m experiments.theorems

Hyvarinen's theorem: explicit minus implicit score matching is a constant that does not depend on the model.
Vincent's theorem: the same holds for explicit score matching at p_sigma minus denoising score matching.

Models lie on lines through the parameters of several families, and are tried on several densities. For each
line the program tests that the differences are constant and that the gradients are equal. It also measures
the bias and the variance of sliced score matching about implicit score matching, and the distance between
the score learned by denoising at sigma and the score of the data. Every row of theorems.json has an estimate
and its standard error.
"""

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta

from experiments.theorems import rows
from experiments.theorems.rows import Row
from jaxscore.launch import console, flags, plots, workdir


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Tests of the lecture's two theorems and of their consequences, as a table and a picture."""

    workdir: Path = Path("runs/theorems")
    """Folder for theorems.json and theorems.png."""
    seed: flags.Seed = 0
    """Seed of all random numbers."""
    blocks: Annotated[int, Meta(ge=10)] = 100
    """Independent blocks of draws; standard errors are estimated from the means of the blocks."""
    draws: Annotated[int, Meta(ge=100)] = 2000
    """Draws from the density in each block."""
    sigma: flags.Positive = 0.6
    """Noise level of denoising score matching, for Vincent's theorem."""
    thetas: Annotated[int, Meta(ge=2)] = 5
    """Number of models on the line of each family."""

    def __post_init__(self):
        flags.check(self)


def table(found: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line for each quantity, objective and pair: the row furthest from 0, the largest standard error."""
    groups: dict[tuple, list[Row]] = {}
    for row in found:
        if "errors_off" in row:
            groups.setdefault((row["quantity"], row["objective"], row["pair"]), []).append(row)
    lines = [("", "", "rows", "furthest", "in errors", "error / objective")]
    for (quantity, objective, pair), members in groups.items():
        worst = max(members, key=lambda row: abs(row["errors_off"]))
        fraction = max(row["error_share"] for row in members)
        numbers = f"{worst['estimate']:+.5f}", f"{worst['errors_off']:+.2f}", f"{fraction:.2%}"
        lines.append((f"{objective}: {quantity}", pair, str(len(members)), *numbers))
    return lines


def summary(found: Sequence[Row]) -> list[tuple[str, str]]:
    """Summary of all rows: a line with a name and a value for each result."""
    tested = [row for row in found if "errors_off" in row]
    # 95 % quantile of the largest of this many independent normal values; correlated rows stay below it.
    chance = statistics.NormalDist().inv_cdf((1 + 0.95 ** (1 / len(tested))) / 2)
    lines = [
        ("rows that should be 0", str(len(tested))),
        ("furthest of them, in standard errors", f"{max(abs(row['errors_off']) for row in tested):.2f}"),
        ("by chance below, in 19 runs of 20", f"{chance:.2f}"),
        ("largest standard error / objective", f"{max(row['error_share'] for row in tested):.2%}"),
    ]
    for kind in rows.SLICED:
        exponent = _exponent(found, kind, "probes", "variance_estimate")
        lines.append((f"{kind}: variance ~ K to the power", f"{exponent:.3f}"))
    near = [row for row in found if row.get("sigma", 1.0) < 0.15]
    exponent = _exponent(near, rows.EXACT, "sigma", "estimate")
    lines.append(("|s(x, sigma) - s(x)| ~ sigma, below 0.15, to the power", f"{exponent:.3f}"))
    best = min(_chosen(found, objective=rows.LEARNED), key=lambda row: row["estimate"])
    where = f"{best['estimate']:.4f} at sigma {best['sigma']:.3g}"
    return [("", ""), *lines, ("learnt by denoising, nearest to s(x)", where)]


def _exponent(found: Sequence[Row], objective: str, x: str, y: str) -> float:
    """Exponent a of y ~ x^a, by least squares on the logarithms."""
    points = [(row[x], row[y]) for row in _chosen(found, objective=objective) if x in row]
    return float(np.polyfit(*np.log(points).T, 1)[0])


# The picture ----------------------------------------------------------------------------------

SHOWN = "mixture, network"
COLORS = {"implicit": plots.BLUE, "denoising": plots.ORANGE}


def picture(found: Sequence[Row], path: Path) -> None:
    """Draws the objectives, their differences, the variance of slices, and the limit of small noise."""
    with plots.page(path, columns=4, size=4.4, height=4.0) as (curves, constant, variance, limit):
        _curves(curves, found)
        _differences(constant, found)
        _variances(variance, found)
        _limit(limit, found)
        for axes in (curves, constant, variance, limit):
            axes.title.set_fontsize(10)
            axes.legend(fontsize=8)


def _curves(axes, found: Sequence[Row]) -> None:
    for objective, reference in rows.THEOREMS.items():
        style = {"marker": "o", "markersize": 3, "color": COLORS[objective]}
        for name, line in ((objective, "-"), (reference, ":")):
            points = _chosen(found, quantity="value", objective=name, pair=SHOWN)
            label = name.replace("sigma", "σ")
            axes.plot(*_columns(points, "theta", "estimate"), line, label=label, **style)
    axes.set(xlabel="θ", ylabel="objective", xticks=np.linspace(-1, 1, 5))
    axes.set_title(f"the objectives along θ ({SHOWN}):\nin pairs, apart by a constant")


def _differences(axes, found: Sequence[Row]) -> None:
    found = _chosen(found, quantity=rows.CONSTANT)
    for objective, color in COLORS.items():
        at = [i for i, row in enumerate(found) if row["objective"] == objective]
        points = [found[i] for i in at]
        estimate, error, fraction = _columns(points, "estimate", "standard_error", "error_share")
        style = {"fmt": "o", "markersize": 2.5, "linewidth": 1, "color": color, "label": objective}
        axes.errorbar(at, 100 * fraction * estimate / error, 3 * 100 * fraction, **style)
    axes.axhline(0, color=plots.GREY, linewidth=0.8)
    axes.set(xlabel="each model on each density", ylabel="% of the explicit objective", xticks=[])
    axes.set_title("explicit − the other, from its mean over θ,\nwith three standard errors")


def _variances(axes, found: Sequence[Row]) -> None:
    for kind, color in zip(rows.SLICED, COLORS.values(), strict=True):
        points = _chosen(found, objective=kind, pair=SHOWN)
        axes.loglog(*_columns(points, "probes", "variance_estimate"), "o-", color=color, label=kind)
    axes.set(xlabel="probes K", ylabel="variance about the implicit objective")
    axes.set_title(f"sliced score matching ({SHOWN}):\nunbiased, its variance falls as 1/K")


def _limit(axes, found: Sequence[Row]) -> None:
    for kind, color in ((rows.EXACT, plots.GREY), (rows.LEARNED, plots.ORANGE)):
        points = _columns(_chosen(found, objective=kind), "sigma", "estimate", "standard_error")
        axes.errorbar(*points, fmt="o-", markersize=3, color=color, label=kind.replace("sigma", "σ"))
    axes.set(xscale="log", yscale="log", xlabel="σ", ylabel="relative RMS distance from s(x)")
    axes.set_title("s(x, σ) → s(x) as σ → 0, but what is learnt\nfrom a given number of draws gets noisier")


def _chosen(found: Sequence[Row], **labels: str) -> list[Row]:
    return [row for row in found if all(row[name] == value for name, value in labels.items())]


def _columns(found: Sequence[Row], *names: str) -> np.ndarray:
    return np.asarray([[row[name] for name in names] for row in found], float).T


def run(config: Config) -> list[Row]:
    """Returns the rows; prints a table and writes theorems.json and theorems.png into the workdir."""
    with workdir.owned(config.workdir, workdir.describe("theorems", config)):
        found = rows.all_rows(config, console.say)
        workdir.write_json(config.workdir / "theorems.json", found)
        picture(found, config.workdir / "theorems.png")
        console.say("\n" + console.table(table(found)) + "\n\n" + console.table(summary(found)) + "\n")
        console.say(f"table: {config.workdir / 'theorems.json'}\npicture: {config.workdir / 'theorems.png'}")
    return found

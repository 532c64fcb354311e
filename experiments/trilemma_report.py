"""What the trilemma shows: a table, the triangle, quality against evaluations, and a page of samples.

A row is a sampler of a family, with a value for each training seed:

    {"family": "edm", "sampler": "heun", "parameters": 281_000, "evaluations": 35,
     "training_flops": 2e13, "training_seconds": [41.0, ...], "seconds_per_1000": [0.6, ...],
     "compile_seconds": [2.1, ...], "diverged": 0, "metrics": {"frechet": [0.41, ...], ...}}

`diverged` counts the seeds whose training did not stay finite; they have no values.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from scipy import stats

from experiments import figures

Row = dict[str, Any]

COLUMNS = {
    "frechet": ("Fréchet", 2),
    "precision": ("precision", 2),
    "recall": ("recall", 2),
    "coverage": ("coverage", 2),
    "modes": ("modes", 0),
    "mode_kl": ("mode KL", 3),
    "memorisation": ("memorised", 2),
}
"""Metrics that have a column if any row has them: their headings, and digits after the point."""

CORNERS = {"quality": (0.5, 3**0.5 / 2), "coverage": (0.0, 0.0), "speed": (1.0, 0.0)}
"""Of the triangle, in the plane."""


# The table --------------------------------------------------------------------------------------


def mean_and_reach(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float]:
    """The mean over seeds, and how far its Student-t interval reaches to either side; nan for one seed."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return float(values.mean()), float("nan")
    quantile = stats.t.ppf((1 + level) / 2, len(values) - 1)
    return float(values.mean()), float(quantile * values.std(ddof=1) / len(values) ** 0.5)


def table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line for each row: cost first, then every metric as mean ± reach of its interval over seeds."""
    shown = [name for name in COLUMNS if any(name in row["metrics"] for row in rows)]
    cost = ("parameters", "training s", "training TFLOP", "evaluations", "s / 1,000", "compile s")
    lines = [("family", "sampler", *cost, *(COLUMNS[name][0] for name in shown))]
    for row in rows:
        if not row["training_seconds"]:
            lines.append(
                (row["family"], row["sampler"], *[""] * (len(cost) - 1), "diverged", *[""] * len(shown))
            )
            continue
        family = row["family"] + (f" ({row['diverged']} diverged)" if row["diverged"] else "")
        lines.append(
            (
                family,
                row["sampler"],
                f"{row['parameters']:,}",
                f"{np.mean(row['training_seconds']):.0f}",
                f"{row['training_flops'] / 1e12:.1f}",
                f"{row['evaluations']:,}",
                f"{np.mean(row['seconds_per_1000']):.3g}",
                f"{np.mean(row['compile_seconds']):.1f}",
                *(cell(row["metrics"].get(name), COLUMNS[name][1]) for name in shown),
            )
        )
    return lines


def cell(values: Sequence[float] | None, digits: int) -> str:
    """Mean ± reach, as text."""
    if not values:
        return ""
    mean, reach = mean_and_reach(values)
    return f"{mean:.{digits}f}" + ("" if np.isnan(reach) else f" ± {reach:.{digits}f}")


# The triangle -----------------------------------------------------------------------------------


def scaled(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """quality, coverage and speed of each row, from 0 (the worst of the rows) to 1 (the best).

    Quality goes by -log Fréchet distance, coverage by recall, speed by -log seconds for 1,000 samples; all
    linear in between. Where all rows are equal all are 1.
    """
    mean = lambda values: float(np.mean(values))
    raw = {
        "quality": [-np.log(mean(row["metrics"]["frechet"])) for row in rows],
        "coverage": [mean(row["metrics"]["recall"]) for row in rows],
        "speed": [-np.log(mean(row["seconds_per_1000"])) for row in rows],
    }

    def between(values) -> np.ndarray:
        values = np.asarray(values, float)
        spread = np.ptp(values)
        return (values - values.min()) / spread if spread > 0 else np.ones(len(values))

    return {name: between(values) for name, values in raw.items()}


def position(quality: np.ndarray, coverage: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """Where in the triangle: the corners' mean, weighted by the three values; the middle if all are 0."""
    weights = np.stack([quality, coverage, speed], axis=1)
    total = weights.sum(axis=1, keepdims=True)
    weights = np.where(total > 0, weights / np.where(total > 0, total, 1), 1 / 3)
    return weights @ np.array(list(CORNERS.values()))


def triangle(axes: Axes, rows: Sequence[Row]) -> None:
    """Every row at its place, numbered, the larger the more of the three it has; the values beside it."""
    values, shades = scaled(rows), colours(rows)
    places, total = position(**values), sum(values.values()) / 3
    axes.plot(*np.array([*CORNERS.values(), CORNERS["quality"]]).T, color=figures.GREY, linewidth=1)
    for (name, (x, y)), below in zip(CORNERS.items(), (False, True, True), strict=True):
        axes.annotate(name, (x, y), (0, -14 if below else 8), textcoords="offset points", ha="center")
    lines = ["     quality  coverage  speed"]
    for number, (row, place, size, *each) in enumerate(
        zip(rows, places, total, *values.values(), strict=True), start=1
    ):
        axes.scatter(*place, s=60 + 240 * size, color=shades[row["family"]], alpha=0.75, linewidths=0)
        axes.annotate(str(number), place, fontsize=8, ha="center", va="center", color="white")
        quality, coverage, speed = (f"{value:.2f}" for value in each)
        title = f"{row['family']}, {row['sampler']}"
        lines.append(f"{number:2}   {quality}     {coverage}      {speed}   {title}")
    axes.text(1.1, 0.85, "\n".join(lines), fontsize=8, family="monospace", va="top")
    axes.set(xlim=(-0.1, 2.1), ylim=(-0.12, 1.0), aspect="equal")
    axes.set_axis_off()
    axes.set_title(
        "0 is the worst and 1 the best of these: quality by -log Fréchet distance, coverage by recall,\n"
        "speed by -log seconds; the place is by their ratios, the size by their mean",
        fontsize=9,
    )


def quality_by_evaluations(axes: Axes, rows: Sequence[Row]) -> None:
    """Fréchet distance against network evaluations, with the intervals over seeds; both logarithmic."""
    shades = colours(rows)
    for row in rows:
        mean, reach = mean_and_reach(row["metrics"]["frechet"])
        # A logarithmic axis has no room for an interval that reaches below zero.
        low = 0.0 if np.isnan(reach) else min(reach, 0.9 * mean)
        high = 0.0 if np.isnan(reach) else reach
        where = (row["evaluations"], mean)
        axes.errorbar(*where, yerr=[[low], [high]], fmt="o", color=shades[row["family"]], capsize=3)
        axes.annotate(
            f"{row['family']}, {row['sampler']}", where, (6, 4), textcoords="offset points", fontsize=7
        )
    axes.margins(x=0.2)
    axes.set(xscale="log", yscale="log", xlabel="network evaluations for a sample", ylabel="Fréchet distance")
    axes.set_title("quality against evaluations", fontsize=10)


def colours(rows: Sequence[Row]) -> dict[str, str]:
    """A colour for each family, in the order in which they come."""
    shades = itertools.cycle(SHADES)
    return {family: next(shades) for family in dict.fromkeys(row["family"] for row in rows)}


SHADES = ("#1f5fa8", "#e0822f", "#3c8d40", "#b5323c", "#7d53a8", "#8a6a4f", "#d46aa5", "#4aa3a0")


# Files ------------------------------------------------------------------------------------------


def pictures(rows: Sequence[Row], samples: dict[str, np.ndarray], folder: Path) -> list[Path]:
    """trilemma.png and samples.png; rows without values are left out, and so is a picture without rows."""
    rows, made = [row for row in rows if row["metrics"].get("frechet")], []
    if rows:
        made.append(folder / "trilemma.png")
        with figures.page(made[-1], columns=2, size=8.0, height=5.0) as (left, right):
            triangle(left, rows)
            quality_by_evaluations(right, rows)
    if samples:
        made.append(folder / "samples.png")
        columns = min(4, len(samples))
        with figures.page(made[-1], columns=columns, rows=-(-len(samples) // columns), size=3.2) as axes:
            for place, (title, x) in zip(axes, samples.items(), strict=False):
                show = figures.points if x.ndim == 2 else figures.images
                options = {"title": title} if x.ndim == 2 else {"title": title, "rows": 8}
                show(place, x if x.ndim == 2 else x[:64], **options)
            for place in axes[len(samples) :]:
                place.set_axis_off()
    return made

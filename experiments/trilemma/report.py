"""Tables and pictures of the trilemma: the triangle, quality against evaluations, and a page of samples.

A row describes a sampler of a family. Lists have a value for each training seed:

    {"family": "edm", "sampler": "heun", "parameters": 281_000, "evaluations": 35,
     "training_flops": 2e13, "training_seconds": [41.0, ...], "seconds_per_1000": [0.6, ...],
     "compile_seconds": [2.1, ...], "diverged": 0, "metrics": {"frechet": [0.41, ...], ...},
     "reaches": {}}

`reaches` has half the width of the interval of each metric, for a single training only. `diverged` is the
number of seeds whose training or samples became non-finite; the lists leave out these seeds.
"""

import collections
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from jaxscore import metrics
from jaxscore.launch import plots

Row = dict[str, Any]

QUALITY = {
    "frechet": ("Fréchet", 2),
    "kid": ("KID", 3),
    "fid": ("FID", 2),
    "precision": ("precision", 2),
    "density": ("density", 2),
    "high_quality": ("in a mode", 3),
    "bits": ("bits", 2),
}
"""Metrics of sample quality, with the heading and the decimals of their columns."""

COVERAGE = {
    "recall": ("recall", 2),
    "coverage": ("coverage", 2),
    "modes": ("modes", 1),
    "mode_kl": ("mode KL", 3),
    "memorisation": ("memorised", 2),
}
"""Metrics of mode coverage and memorisation, as QUALITY."""

CORNERS = {"quality": (0.5, 3**0.5 / 2), "coverage": (0.0, 0.0), "speed": (1.0, 0.0)}
"""Corners of the triangle in the plane."""

AROUND = ((8, -12), (8, 6), (-18, 6), (-18, -12))
"""Offsets of the points' labels, in typographic points. They alternate, because neighbouring rows of the
table may lie close together."""


# The table --------------------------------------------------------------------------------------


def mean_and_reach(values: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds, and half the width of its 95 % Student-t interval, which is nan for one seed."""
    if len(values) < 2:
        return float(np.mean(values)), float("nan")
    found = metrics.over_seeds(values)
    return found.mean, found.high - found.mean


def tables(rows: Sequence[Row]) -> list[list[tuple[str, ...]]]:
    """The table in three parts, each narrow enough for a page: quality, coverage, and costs."""
    return [table(rows, QUALITY), table(rows, COVERAGE), costs(rows)]


def table(rows: Sequence[Row], columns: dict[str, tuple[str, int]]) -> list[tuple[str, ...]]:
    """A line for each row: the metrics of `columns` that any row has, each as mean ± half its interval.

    The interval is over seeds. For a single training it is the interval over samples and data.
    """
    shown = [name for name in columns if any(name in row["metrics"] for row in rows)]
    lines = [("family", "sampler", *(columns[name][0] for name in shown))]
    for row in rows:
        if not row["training_seconds"]:  # all seeds diverged
            lines.append((row["family"], row["sampler"], "diverged", *[""] * (len(shown) - 1)))
            continue
        own, values = row["reaches"], row["metrics"]
        cells = (cell(values.get(name), columns[name][1], own.get(name)) for name in shown)
        lines.append((_family(row), row["sampler"], *cells))
    return lines


def costs(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line for each row with values: the costs of training and sampling, as means over seeds."""
    heading = ("parameters", "training s", "training TFLOP", "evaluations", "s / 1,000", "compile s")
    lines = [("family", "sampler", *heading)]
    for row in rows:
        if row["training_seconds"]:
            values = (
                f"{row['parameters']:,}",
                cell(row["training_seconds"], 0),
                f"{row['training_flops'] / 1e12:.2f}",
                f"{row['evaluations']:,}",
                cell(row["seconds_per_1000"], 3),
                cell(row["compile_seconds"], 1),
            )
            lines.append((_family(row), row["sampler"], *values))
    return lines


def _family(row: Row) -> str:
    return row["family"] + (f" ({row['diverged']} diverged)" if row["diverged"] else "")


def about(settings: dict[str, Any], seeds: int) -> str:
    """Text below the tables: numbers of samples and examples, features, and meaning of the intervals."""
    if not settings:
        return "no family stayed finite"
    accuracy, n, few = settings.get("classifier_accuracy"), settings["n"], settings["n_distances"]
    part = f" ({few:,} for distances)" if few < n else ""
    seen = "" if accuracy is None else f", right on {accuracy:.1%} of digits that it had not seen"
    lines = [
        f"{n:,} samples{part}, held against {settings['reference_n']:,} examples "
        f"(SHA-256 {settings['reference_hash'][:8]}); rounding: {settings['rounding']}",
        f"features: {settings['extractor']}{seen}",
    ]
    several = f"±: 95 % for the mean over {seeds} training seeds (Student's t)"
    single = "±: 95 % for other samples and data, of this one training (halves of both)"
    lines.append(several if seeds > 1 else single)
    return "\n".join(lines)


def cell(values: Sequence[float] | None, digits: int, own: float | None = None) -> str:
    """Mean ± half the interval, as text; `own` is half the interval of a single value."""
    if not values:
        return ""
    mean, reach = mean_and_reach(values)
    reach = reach if own is None else own
    return f"{mean:.{digits}f}" + ("" if np.isnan(reach) else f" ± {reach:.{digits}f}")


# The triangle -----------------------------------------------------------------------------------


def scaled(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Quality, coverage and speed of each row, scaled linearly from 0 for the worst row to 1 for the best.

    Quality is -log Fréchet distance, coverage is recall, and speed is -log seconds for 1,000 samples. If all
    rows are equal, their values are 1.
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
    """Place in the triangle: mean of the corners, weighted by the three values; the middle if all are 0."""
    weights = np.stack([quality, coverage, speed], axis=1)
    total = weights.sum(axis=1, keepdims=True)
    weights = np.where(total > 0, weights / np.where(total > 0, total, 1), 1 / 3)
    return weights @ np.array(list(CORNERS.values()))


def triangle(axes: Axes, rows: Sequence[Row]) -> None:
    """Draws each row as a numbered disc at its place, whose area grows with the mean of the three values."""
    values, shades = scaled(rows), colours(rows)
    places, total = position(**values), sum(values.values()) / 3
    axes.plot(*np.array([*CORNERS.values(), CORNERS["quality"]]).T, color=plots.GREY, linewidth=1)
    for (name, (x, y)), below in zip(CORNERS.items(), (False, True, True), strict=True):
        axes.annotate(name, (x, y), (0, -14 if below else 8), textcoords="offset points", ha="center")
    lines = ["     quality  coverage  speed"]
    for number, (row, place, size, *each) in enumerate(
        zip(rows, places, total, *values.values(), strict=True), start=1
    ):
        colour = shades[row["family"]]
        axes.scatter(*place, s=60 + 240 * size, color=colour, alpha=0.75, linewidths=0)
        beside = {"xytext": AROUND[number % 4], "textcoords": "offset points"}
        axes.annotate(str(number), place, **beside, fontsize=8, color=colour)
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
    """Draws the Fréchet distance and its interval over network evaluations, on logarithmic axes.

    Each row has its number in the triangle. Rows with equally many evaluations stand side by side.
    """
    shades, beside = colours(rows), collections.Counter()
    for number, row in enumerate(rows, start=1):
        mean, reach = mean_and_reach(row["metrics"]["frechet"])
        reach = row["reaches"].get("frechet", reach)
        # An interval that reaches below zero cannot be drawn on a logarithmic axis.
        low = 0.0 if np.isnan(reach) else min(reach, 0.9 * mean)
        high = 0.0 if np.isnan(reach) else reach
        where = (row["evaluations"] * 1.09 ** beside[row["evaluations"]], mean)
        beside[row["evaluations"]] += 1
        style = {"fmt": "o", "markersize": 4, "color": shades[row["family"]], "capsize": 2}
        axes.errorbar(*where, yerr=[[low], [high]], **style)
        axes.annotate(str(number), where, (3, 4), textcoords="offset points", fontsize=8)
    axes.margins(x=0.1)
    axes.set(xscale="log", yscale="log", xlabel="network evaluations for a sample", ylabel="Fréchet distance")
    axes.set_title("quality against evaluations; numbers as in the triangle", fontsize=10)


def colours(rows: Sequence[Row]) -> dict[str, str]:
    """A colour for each family, in the order of the rows."""
    shades = itertools.cycle(SHADES)
    return {family: next(shades) for family in dict.fromkeys(row["family"] for row in rows)}


SHADES = (
    *("#1f5fa8", "#e0822f", "#3c8d40", "#b5323c", "#7d53a8", "#8a6a4f"),
    *("#d46aa5", "#4aa3a0", "#a8a02f", "#555555", "#e05fd0"),
)


# Files ------------------------------------------------------------------------------------------


def pictures(rows: Sequence[Row], samples: dict[str, np.ndarray], folder: Path) -> list[Path]:
    """Draws trilemma.png from the rows with values, and samples.png; returns their paths.

    A picture that would be empty is not drawn.
    """
    rows, made = [row for row in rows if row["metrics"].get("frechet")], []
    if rows:
        made.append(folder / "trilemma.png")
        with plots.page(made[-1], columns=2, size=8.0, height=5.0) as (left, right):
            triangle(left, rows)
            quality_by_evaluations(right, rows)
    if samples:
        made.append(folder / "samples.png")
        columns = min(4, len(samples))
        with plots.page(made[-1], columns=columns, rows=-(-len(samples) // columns), size=3.2) as axes:
            for place, (title, x) in zip(axes, samples.items(), strict=False):
                plots.examples(place, x, title)
            for place in axes[len(samples) :]:
                place.set_axis_off()
    return made

"""Tables and pictures of the distances to exact posteriors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxscore.launch import console, plots

Cells = Sequence[dict[str, Any]]


def one_number(rows: Sequence[dict[str, Any]]) -> str:
    """Returns mean and standard deviation of each method for the smallest problem."""
    lines = [(row["method"], f"{row['mean']:.3f}", f"{row['std']:.3f}") for row in rows]
    return console.table([("x ~ N(0, 1), x + 0.3 z = 1", "mean", "std"), *lines])


def interval(distances: Sequence[float | None]) -> tuple[float, float, int]:
    """Returns the mean over the problems, 1.96 standard errors, and the number that diverged."""
    finite = np.asarray([each for each in distances if each is not None], float)
    if not len(finite):
        return np.nan, np.nan, len(distances)
    error = 1.96 * finite.std(ddof=1) / len(finite) ** 0.5 if len(finite) > 1 else np.nan
    return float(finite.mean()), float(error), len(distances) - len(finite)


def tables(cells: Cells) -> str:
    """Returns a table for each number of dimensions, with a column for each number of measurements."""
    parts = []
    for d in dict.fromkeys(cell["dimensions"] for cell in cells):
        of_d = [cell for cell in cells if cell["dimensions"] == d]
        kinds = (f"{cell['measurements']} measured" for cell in of_d)
        lines = [(f"sliced Wasserstein, D = {d}", *kinds, "evaluations", "seconds")]
        for rows in zip(*(cell["rows"] for cell in of_d), strict=True):
            costs = (f"{rows[0]['evaluations']:.0f}", f"{np.mean([row['seconds'] for row in rows]):.2f}")
            lines.append((rows[0]["method"], *(_cell(row["distances"]) for row in rows), *costs))
        parts.append(console.table(lines))
    return "\n\n".join(parts)


def _cell(distances: Sequence[float | None]) -> str:
    """Returns mean and interval; if some diverge, the median of all, because the rest has no stable mean."""
    mean, error, lost = interval(distances)
    if lost == len(distances):
        return "all diverge"
    if lost:
        middle = np.median([np.inf if each is None else each for each in distances])
        return f"median {middle:.2f} ({lost} diverge)"
    return f"{mean:.2f} ± {error:.2f}"


def picture(cells: Cells, path: Path) -> None:
    """Draws the distance over the number of particles, between those of PiGDM and of exact draws."""
    kinds = list(dict.fromkeys(cell["measurements"] for cell in cells))
    with plots.page(path, columns=len(kinds), size=4.2, height=3.8) as axes:
        for each, kind in zip(axes, kinds, strict=True):
            for cell, color in zip(
                (cell for cell in cells if cell["measurements"] == kind),
                (plots.BLUE, plots.ORANGE, "#3c9d6b"),
                strict=False,
            ):
                found = {row["method"]: interval(row["distances"])[:2] for row in cell["rows"]}
                numbers = [int(name.split(", ")[1]) for name in found if name.startswith("particles")]
                values = [found[f"particles, {number}"] for number in numbers]
                label = f"particles, D = {cell['dimensions']}"
                if numbers:
                    means, errors = zip(*values, strict=True)
                    each.errorbar(numbers, means, errors, fmt="o-", color=color, label=label, capsize=2)
                each.axhline(found["exact draws"][0], color=color, linewidth=0.8, linestyle=":")
                if "PiGDM" in found:
                    each.axhline(found["PiGDM"][0], color=color, linewidth=0.8, linestyle="--")
            each.set(xscale="log", xlabel="particles", title=f"{kind} measured", ylim=(0, None))
            each.set_xticks(numbers, map(str, numbers))
            each.minorticks_off()
        axes[0].set_ylabel("sliced Wasserstein distance")
        if axes[0].get_legend_handles_labels()[0]:
            axes[0].legend(fontsize=8, title="dashed: PiGDM; dotted: exact draws", title_fontsize=8)


def modes(shown: dict[str, np.ndarray], means: np.ndarray, path: Path) -> None:
    """Draws the first two coordinates of the draws of each method, over the modes of the prior."""
    columns = 5
    with plots.page(path, columns=columns, size=2.5, rows=-(-len(shown) // columns)) as axes:
        for each, (name, x) in zip(axes, shown.items(), strict=False):
            each.plot(*means[:, :2].T, "+", color=plots.GREY, markersize=5, alpha=0.6)
            each.plot(*x[:, :2].T, ".", color=plots.BLUE, markersize=2)
            each.set(title=name, xlim=(-22, 22), ylim=(-22, 22), xticks=[], yticks=[], aspect="equal")
            each.title.set_fontsize(9)
        for each in axes[len(shown) :]:
            each.axis("off")

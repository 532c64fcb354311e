"""Tables and picture of the samplers, and the one to take."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxscore.launch import console, plots

NEAR = 1.2
"""A sampler is recommended if its Frechet distance is at most this much times that of the converged flow."""

TITLES = {
    "frechet": "Frechet distance",
    "rms": "from the converged flow, RMS",
    "same_class": "class of the converged flow",
}
"""Metrics of the tables; the class is the fraction of samples for which it is the same."""

MARKS = "os^vDPX"
COLORS = (plots.BLUE, plots.ORANGE, "#3c9d6b", "#a45bb0", "#c0504d", "#7f6f3f", "#2b9fb8", "#d977a6")
"""Marks and colours of the samplers, which take turns; 7 and 8 of them make 56 pairs."""

Rows = Sequence[dict[str, Any]]


def tables(rows: Rows, converged: dict[str, Any]) -> str:
    """Returns a table for each metric, one of the adaptive solver, and the sampler to take.

    A column is a number of evaluations. Samplers of two evaluations per step have one less if it is even.
    """
    parts = [_on_levels(rows, metric) for metric in TITLES if any(metric in row for row in rows)]
    cells = lambda row: (_cell(row, metric) for metric in TITLES)
    lines = [
        (_name(row), f"{row['evaluations']:.1f}", f"{row['seconds']:.2f}", *cells(row))
        for row in rows
        if not row["budget"]
    ]
    if lines:
        parts.append(console.table([("adaptive", "evaluations", "seconds", *TITLES.values()), *lines]))
    ends = f"{converged['low']:.3g} to {converged['high']:.3g}"
    parts.append(f"Frechet distance of the converged flow: {converged['frechet']:.3g} ({ends})")
    return "\n\n".join([*parts, recommendation(rows, converged)])


def _on_levels(rows: Rows, metric: str) -> str:
    rows = [row for row in rows if row["budget"] and metric in row]
    budgets = sorted({row["budget"] for row in rows})
    at = {(row["sampler"], row["budget"]): _cell(row, metric) for row in rows}
    names = dict.fromkeys(row["sampler"] for row in rows)
    lines = [(name, *(at.get((name, budget), "") for budget in budgets)) for name in names]
    return console.table([(TITLES[metric], *map(str, budgets)), *lines])


def _cell(row: dict[str, Any], metric: str) -> str:
    return f"{row[metric]:.3g}" if metric in row else ""


def _name(row: dict[str, Any]) -> str:
    return row["sampler"] if row["budget"] else row["sampler"].removeprefix("adaptive ")


def recommendation(rows: Rows, converged: dict[str, Any]) -> str:
    """Returns the sampler with the fewest evaluations that is nearly as good as the converged flow."""
    good = [row for row in rows if row["frechet"] <= NEAR * converged["frechet"]]
    if not good:
        return f"no sampler comes within {NEAR} times of the converged flow; give more --evaluations"
    best = min(good, key=lambda row: (row["evaluations"], row["frechet"]))
    n = best["evaluations"]
    how = f"{best['sampler']}, {n:g} evaluation{'s' * (n != 1)}: {best['frechet']:.3g}"
    return f"fewest evaluations within {NEAR} times of the converged flow: {how}"


def picture(rows: Rows, converged: dict[str, Any], path: Path) -> None:
    """Draws the Frechet distance over evaluations and over seconds, and the distance from the flow.

    Lines of samplers with noise are broken. The band is the interval of the converged flow.
    """
    title = lambda row: row["sampler"] if row["budget"] else "adaptive"
    names = list(dict.fromkeys(map(title, rows)))
    follows = {title(row) for row in rows if "rms" in row}
    panels = [("evaluations", "frechet"), ("seconds", "frechet"), ("evaluations", "rms")]
    with plots.page(path, columns=3, size=5.2, height=6.4) as axes:
        for each, (across, up) in zip(axes, panels, strict=True):
            for number, name in enumerate(names):
                line = sorted((row[across], row[up]) for row in rows if title(row) == name and up in row)
                style = {"color": COLORS[number % len(COLORS)], "linewidth": 1, "markersize": 4}
                mark = MARKS[number % len(MARKS)] + ("-" if name in follows else ":")
                if line:
                    each.plot(*zip(*line, strict=True), mark, label=name, **style)
            each.set(yscale="log", xlabel=across, ylabel=TITLES[up])
            each.set_xscale("log", base=2)
            each.xaxis.set_major_formatter("{x:g}")
            if across == "evaluations":
                ticks = sorted({row["budget"] for row in rows if row["budget"]})
                each.set_xticks(ticks, map(str, ticks))
        for each in axes[:2]:
            each.axhspan(converged["low"], converged["high"], color=plots.GREY, alpha=0.15, linewidth=0)
            each.axhline(converged["frechet"], color=plots.GREY, linewidth=0.8)
            each.set_ylim(bottom=min(row["frechet"] for row in rows) / 2)
        axes[0].set_title("grey: the converged probability flow", fontsize=10)
        axes[2].set_title("samplers that follow the flow", fontsize=10)
        handles, labels = axes[0].get_legend_handles_labels()
        axes[1].legend(handles, labels, fontsize=7, loc="upper center", ncols=3, bbox_to_anchor=(0.5, -0.12))

"""Table and pictures of the likelihoods."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxscore.launch import console, plots


def summary(title: str, rows: dict[str, np.ndarray], size: int, bits: bool, seconds: float) -> dict[str, Any]:
    """Returns the means over the examples of a set, their standard errors, and the costs.

    The standard errors are those of other examples. Examples that the solver gave up are counted, and left
    out of the means.

    Args:
        title: of the set.
        rows: as `measure.rows_of` returns them.
        size: number of values of an example.
        bits: whether the examples have grey values.
        seconds: time for an example; NaN if all were computed before.
    """
    arrived = np.isfinite(rows["log_p"])
    found = {"set": title, "examples": len(arrived), "not_finite": int((~arrived).sum())}
    for name in ("log_p", "bound"):
        values = rows[name][arrived].astype(float)
        found[name] = float(values.mean())
        found[f"{name}_error"] = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
        if bits:
            unit = size * np.log(2)
            found[f"{name}_bits"] = -found[name] / unit
            error = found[f"{name}_error"]
            found[f"{name}_bits_error"] = None if error is None else error / unit
    found["probe_error"] = float(np.sqrt(np.mean(rows["error"][arrived] ** 2)))
    found["evaluations"] = float(rows["evaluations"][arrived].mean())
    found["most_evaluations"] = int(rows["evaluations"].max())
    return found | {"seconds": None if np.isnan(seconds) else seconds}


def more_likely(inside: np.ndarray, outside: np.ndarray) -> float:
    """Returns the probability that a random example is more likely than one of the other set: the AUROC."""
    inside, outside = np.sort(inside), np.asarray(outside)
    below = np.searchsorted(inside, outside, side="left") + np.searchsorted(inside, outside, side="right")
    return 1 - float(below.mean()) / (2 * len(inside))


def table(sets: Sequence[dict[str, Any]]) -> str:
    """Returns a line for each set."""
    bits = "log_p_bits" in sets[0]
    columns = ("bits per dimension", "bound, bits") if bits else ("bound, nats",)
    costs = ("error of probes", "evaluations", "most", "s / example")
    lines = [("set", "examples", "log p, nats", *columns, *costs)]
    for each in sets:
        names = ("log_p_bits", "bound_bits") if bits else ("bound",)
        cells = (_cell(each[name], each[f"{name}_error"], 4 if bits else 2) for name in names)
        evaluations = (f"{each['evaluations']:.1f}", str(each["most_evaluations"]))
        seconds = "" if each["seconds"] is None else f"{each['seconds']:.3f}"
        log_p = _cell(each["log_p"], each["log_p_error"], 2)
        probes = f"{each['probe_error']:.2f}"
        lines.append((each["set"], f"{each['examples']:,}", log_p, *cells, probes, *evaluations, seconds))
    return console.table(lines)


def _cell(value: float, error: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def histogram(sets: dict[str, np.ndarray], unit: str, path: Path) -> None:
    """Draws a histogram of each set, with the same bins; those beyond the central 99.8 % are left out."""
    together = np.concatenate(list(sets.values()))
    low, high = np.quantile(together, [0.001, 0.999])
    edges = np.linspace(low, max(high, low + 1e-3), 61)
    with plots.page(path, columns=1, size=7.0, height=4.0) as (axes,):
        for (title, values), color in zip(sets.items(), (plots.BLUE, plots.ORANGE), strict=False):
            axes.hist(values, edges, density=True, color=color, alpha=0.6, label=f"{title} ({len(values):,})")
        axes.set(xlabel=unit, ylabel="density")
        axes.legend(fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)


def arcs(images: np.ndarray, path: Path) -> None:
    """Draws images [pairs, steps, h, w, c]: each row goes from one image of the data to another."""
    pairs, steps = images.shape[:2]
    with plots.page(path, columns=1, size=0.8 * steps, height=0.8 * pairs + 0.4) as (axes,):
        title = "between the latents of the first and of the last image"
        plots.images(axes, images.reshape(-1, *images.shape[2:]), rows=pairs, title=title)

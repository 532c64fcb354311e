"""The table of the evaluation, and the pictures: posteriors, calibration, losses."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.sbi.config import Config
from experiments.sbi.judging import LEVELS, Ranks, of_observation
from experiments.sbi.references import reference
from jaxscore.launch import plots, validation

TITLES = {
    "sbc": "ranks of the parameters",
    "likelihood": "ranks of the log likelihood",
    "tarp": "TARP",
    "density": "ranks of the density",
}
"""What is tested, and how it is named in the table and in the pictures."""

SHOWN = 4
"""Number of parameters in the picture of a posterior, at most."""


def table(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Returns rows of text: what was measured, its value, and what exact posteriors would have."""
    c2st, checks, settings = found["c2st"], found["calibration"], found["settings"]
    rows = [(f"posteriors of {settings['task']}", "measured", "if exact")]
    if c2st["accuracies"]:
        low, high = min(c2st["accuracies"]), max(c2st["accuracies"])
        title = f"C2ST with {c2st['draws']:,} draws, mean of {len(c2st['accuracies'])} observations"
        rows.append((title, f"{c2st['mean']:.4f}", f"0.5 ± {c2st['error']:.4f}"))
        rows.append(("  lowest and highest", f"{low:.3f}, {high:.3f}", ""))
    for name, p_value in checks["p_values"].items():
        rows.append((f"p-value, {TITLES[name]}", f"{p_value:.3f}", "uniform in 0..1"))
    for name, title in (("sbc", "central intervals"), ("density", "highest-density regions")):
        cover = checks.get(f"{name}_coverage")
        for place, level in enumerate(LEVELS if cover else ()):
            value, error = cover["fraction"][place], cover["error"][place]
            rows.append((f"coverage of {title}, {level:.0%}", f"{value:.1%}", f"{level:.0%} ± {error:.1%}"))
    rows.append(("draws outside the prior", str(settings["outside"]), "0"))
    rows.append(("simulations, held out, dropped", _counts(settings), ""))
    rows.append(("step of the checkpoint, steps, seconds", _steps(settings), ""))
    return rows


def _counts(settings: dict[str, Any]) -> str:
    return ", ".join(f"{settings[name]:,}" for name in ("simulations", "held_out", "dropped"))


def _steps(settings: dict[str, Any]) -> str:
    best = settings["best_step"]
    first = "?" if best is None else f"{best:,}"
    return f"{first}, {settings['steps']:,}, {settings['training_seconds']:.0f}"


def best(history: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the line of metrics.jsonl with the lowest validation loss, or {} if there is none."""
    rated = [row for row in history if row.get(validation.NAME) is not None]
    return min(rated, key=lambda row: (row[validation.NAME], -row["step"]), default={})


def seconds(history: list[dict[str, Any]]) -> float:
    """Returns the seconds of training, from the speeds in metrics.jsonl."""
    steps = np.diff([0, *(row["step"] for row in history)])
    return float(sum(n / row["steps_per_second"] for n, row in zip(steps, history, strict=True)))


# Pictures -----------------------------------------------------------------------------------------


def report(
    config: Config, ranks: Ranks, theta: np.ndarray, history: list[dict[str, Any]], folder: Path
) -> list[Path]:
    """Draws the posterior of an observation, the calibration curves and the losses; returns the paths."""
    paths = [folder / f"{name}.png" for name in ("posterior", "calibration", "loss")]
    draw_posterior(config.task, theta, paths[0])
    draw_calibration(config.task, ranks, paths[1])
    draw_losses(config.task, history, paths[2])
    return paths


def draw_posterior(task: str, theta: np.ndarray, path: Path, *, number: int = 1) -> None:
    """Draws pairs of the first parameters: published draws in orange, learnt draws in blue."""
    mine, found = of_observation(theta, number), reference(task, number)
    exact, n = found.draws[: len(mine)], min(theta.shape[1], SHOWN)
    low, high = np.quantile(found.draws[:, :n], [0.001, 0.999], axis=0)
    reach = 0.08 * (high - low)
    with plots.page(path, columns=n, rows=n, size=7.5 / n) as axes:
        for place, each in enumerate(axes):
            row, column = divmod(place, n)
            limits = low[column] - reach[column], high[column] + reach[column]
            each.set_xlim(limits)
            if row == n - 1:
                each.set_xlabel(f"parameter {column + 1}", fontsize=8)
            if row < column:
                each.set_visible(False)
            elif row == column:
                _histograms(each, exact[:, row], mine[:, row], limits, named=row == 0)
            else:
                each.set(ylim=(low[row] - reach[row], high[row] + reach[row]))
                _clouds(each, exact[:2000, [column, row]], mine[:2000, [column, row]])
        axes[0].set_title(f"{task}, observation {number}", fontsize=9, loc="left")


def _histograms(axes: Any, exact: np.ndarray, mine: np.ndarray, limits: Any, *, named: bool) -> None:
    given = {"bins": 60, "range": limits, "density": True, "histtype": "step"}
    axes.hist(exact, color=plots.ORANGE, label="published draws", **given)
    axes.hist(mine, color=plots.BLUE, label="learnt draws", **given)
    axes.set_yticks([])
    if named:
        legend = axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.05, 1.0))
        legend.set_in_layout(False)  # it lies in the empty panel beside these axes


def _clouds(axes: Any, exact: np.ndarray, mine: np.ndarray) -> None:
    for points, colour in ((exact, plots.ORANGE), (mine, plots.BLUE)):
        axes.scatter(*points.T, s=2, alpha=0.35, color=colour, linewidths=0)


def draw_calibration(task: str, ranks: Ranks, path: Path) -> None:
    """Draws the distribution functions of the ranks minus the uniform one, with 95 % bands.

    Each band is that of the Kolmogorov-Smirnov test of one curve with as many ranks.
    """
    from scipy.stats import kstwo  # slow to import

    shown = [name for name in TITLES if name in ranks]
    with plots.page(path, columns=len(shown), size=3.6, height=3.4) as pages:
        for axes, name in zip(pages, shown, strict=True):
            columns = ranks[name].reshape(len(ranks[name]), -1)
            n, grid = len(columns), np.linspace(0, 1, 201)
            band = kstwo.ppf(0.95, n)
            axes.axhspan(-band, band, color="#dddddd", label="95 % of exact posteriors")
            below = [np.searchsorted(np.sort(column), grid, side="right") / n for column in columns.T]
            away = np.stack(below) - grid
            axes.plot(grid, away.T, color=plots.BLUE, linewidth=1, alpha=0.8)
            reach = 1.1 * max(0.15, 1.5 * band, np.abs(away).max())
            axes.set(xlabel="rank r", ylim=(-reach, reach))
            axes.set_title(f"{TITLES[name]}, {n} simulations", fontsize=9)
        pages[0].set_ylabel(f"{task}: fraction of ranks below r, minus r", fontsize=8)
        pages[0].legend(fontsize=7, loc="upper right")


def draw_losses(task: str, history: list[dict[str, Any]], path: Path) -> None:
    """Draws the training loss and the validation loss against the step, and the chosen checkpoint."""
    curve = lambda name: np.array([(row["step"], row[name]) for row in history if row.get(name) is not None])
    with plots.page(path, columns=1, size=7.0, height=4.2) as (axes,):
        for name, colour, label in (
            ("loss", plots.GREY, "training"),
            (validation.NAME, plots.BLUE, "validation"),
        ):
            if len(points := curve(name)):
                axes.plot(*points.T, color=colour, label=label)
        if chosen := best(history):
            axes.axvline(chosen["step"], color=plots.ORANGE, linestyle=":", label="chosen checkpoint")
            axes.legend(fontsize=8)
        axes.set(xlabel="step", ylabel="weighted denoising loss", title=f"{task}: losses")

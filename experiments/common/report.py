"""What experiments on images report: metrics by several judges, a table, and samples beside real images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.features import Judge
from jaxscore import metrics
from jaxscore.launch import plots
from jaxscore.launch.evaluate import FID, cell, left_out
from jaxscore.launch.sample import require_finite

COLUMNS = {
    "frechet": "Frechet",
    "precision": "precision",
    "recall": "recall",
    "class_kl": "class KL",
    "nearest_neighbour_ratio": "neighbour ratio",
    "agreement": "agreement",
}
"""The metrics in the table, and their titles; agreement: fraction of samples of the class asked for."""


def judged(
    config: Any,
    judges: Sequence[Judge],
    features: str,
    samples: dict[str, np.ndarray],
    reference: np.ndarray,
    labels: np.ndarray,
    evaluations: dict[str, int],
    further: Callable[[str, np.ndarray, Judge], dict[str, float]] = lambda name, x, judge: {},
) -> dict[str, Any]:
    """Returns what the samples were judged by, and for each array the means of its metrics over the judges.

    Args:
        config: flags; samples are rounded to multiples of 1 / grey_values before they are judged.
        judges: features and classes of images.
        features: what the features are; without classes, a line below the table says it.
        samples: arrays of images; their single values are under `by_judge`.
        reference, labels: real images and their classes.
        evaluations: evaluations of the network, by array.
        further: further(name, x, judge) -> metrics besides those of `metrics.compare`.
    """
    require_finite(samples)
    classes = judges[0][1] is not None
    settings = {"n": config.samples, "reference_n": len(reference), "features": features}
    settings |= {"classifiers": len(judges) if classes else 0, "rounded_to": f"1/{config.grey_values}"}
    results = {"settings": settings, "real": _halves(judges, reference)}
    several = len(np.unique(labels)) > 1  # frequencies of one class cannot be compared
    for name, x in samples.items():
        x = metrics.round_to(x, config.grey_values)
        rows = [
            metrics.compare(x, reference, labels, features, predict if several else None)
            | further(name, x, (features, predict))
            for features, predict in judges
        ]
        shared = [column for column in rows[0] if all(column in row for row in rows)]
        means = {column: float(np.mean([row[column] for row in rows])) for column in shared}
        results[name] = {"evaluations": evaluations[name], **means, "by_judge": rows}
    return results | {"notes": _notes(features, {name: results[name] for name in samples}, classes, several)}


def _notes(features: str, rows: dict[str, dict], classes: bool, several: bool) -> list[str]:
    """Returns the lines below the table: what judges data without classes, and which metrics are missing."""
    judge = [] if classes else [f"judged by {features}; without classes there is no class KL"]
    absent = {"agreement"} if classes and several else {"agreement", "class_kl"}
    return judge + left_out({name: title for name, title in COLUMNS.items() if name not in absent}, rows)


def _halves(judges: Sequence[Judge], reference: np.ndarray) -> dict[str, float]:
    """Returns the Frechet distance of two halves of the real images, if each half has at least 2."""
    if len(reference) < 4:
        return {}
    found = [metrics.frechet(f(reference[::2]), f(reference[1::2])) for f, _ in judges]
    return {"halves_frechet": float(np.mean(found))}


def table(titles: dict[str, str], results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Returns a row for each array of samples in `titles`, and one for two halves of the real images."""
    headings = COLUMNS | FID
    columns = [column for column in headings if any(column in results[name] for name in titles)]
    rows = [("sampler", "evaluations", *(headings[column] for column in columns))]
    for name, title in titles.items():
        row = results[name]
        rows.append((title, str(row["evaluations"]), *(cell(row, column) for column in columns)))
    real = cell(results["real"], "halves_frechet")
    return [*rows, ("real, half to half", "", real, *[""] * (len(columns) - 1))]


def draw(
    folder: Path, grids: dict[str, np.ndarray], reference: np.ndarray, history: list[dict], size: float
) -> list[Path]:
    """Draws samples.png, nearest.png and loss.png; returns their paths.

    Args:
        folder: the folder of the pictures.
        grids: real images, then samples, by title; the first 100 of each are drawn.
        reference: real images, of which each of the first samples is shown its nearest.
        history: lines of metrics.jsonl.
        size: width of a grid in inches.
    """
    paths = [folder / f"{name}.png" for name in ("samples", "nearest", "loss")]
    with plots.page(paths[0], columns=len(grids), size=size) as axes:
        for each, (title, x) in zip(axes, grids.items(), strict=True):
            plots.images(each, x[:100], rows=10, title=title)
    shown = list(grids.values())[1][:24]
    flat = lambda x: x.reshape(len(x), -1)
    _, nearest = metrics.nearest(flat(shown), flat(reference))
    with plots.page(paths[1], columns=1, size=1.75 * size, height=0.68 * size) as (axes,):
        title = "samples (rows 1 and 3), the nearest real image to each below it"
        plots.pairs(axes, shown, reference[nearest], title=title)
    with plots.page(paths[2], columns=1, size=7.0, height=4.5) as (axes,):
        plots.loss(axes, history)
    return paths


def draw_classes(x: np.ndarray, asked: np.ndarray, path: Path, by: str = "") -> None:
    """Draws a row of up to 20 samples x for each class that was asked for; `by` names the sampler."""
    rows = [x[asked == label][:20] for label in np.unique(asked)]
    columns = min(map(len, rows))
    grid = np.concatenate([row[:columns] for row in rows])
    with plots.page(path, columns=1, size=8.0, height=8.0 * len(rows) / columns + 0.4) as (axes,):
        title = "a row for each class" if len(rows) > 1 else f"class {asked[0]}"
        names = [f"{label}" for label in np.unique(asked)]
        plots.images(axes, grid, rows=len(rows), title=title + by, names=names)


def some(images: Any, n: int, seed: int) -> np.ndarray:
    """Returns n images, drawn at random; some of them twice if there are fewer."""
    return images[np.random.default_rng(seed).choice(len(images), n, replace=len(images) < n)]

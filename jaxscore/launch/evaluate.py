"""Evaluation: metrics.json, the table and the pictures, from the samples in the folder.

An experiment without `evaluate`, `table` or `report` of its own gets those of this module, which fit
samples in the units of the data: images in 0..1, or points.
"""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxscore import data, metrics
from jaxscore.launch import console, export, fid, metrics_log, plots, summaries, tensorboard, workdir
from jaxscore.launch.config import Config
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.sample import require_finite
from jaxscore.launch.signals import Signals
from jaxscore.launch.workdir import Refusal

REFERENCE = 2000
"""Examples, at most, with which samples are compared by default."""

COLUMNS = {
    "frechet": "Frechet",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "nearest_neighbour_ratio": "neighbour ratio",
}
"""The metrics in the default table, and their titles."""

FID = {"fid": "FID"}
"""The column that --inception adds."""


def evaluate(
    experiment: Experiment, folder: Path, params, stamp: str, signals: Signals | None = None
) -> dict[str, Any]:
    """Returns the metrics and prints the table; writes metrics.json and pictures if they are out of date.

    Metrics that are not finite are None, because JSON has no such numbers. The lines under the key "notes"
    are printed below the table. With --export the samples are written once more, as 8-bit images. With
    --inception the FID is added, also to metrics of the same samples that an earlier run wrote.
    """
    path, place, kind = folder / "metrics.json", folder / "report", experiment.config.export
    found, exported = workdir.read_json(path), []
    pictures = sorted(place.glob("*.png"))
    outdated = found is None or found.get("stamp") != stamp or not pictures
    adds_fid = experiment.config.inception is not None and (outdated or _lacks_fid(experiment, found))
    if outdated or kind or adds_fid:
        samples, made_from = workdir.read_samples(folder / "samples.npz")
        if made_from != stamp:
            remedy = "sample first, with the same --data"
            raise Refusal(
                f"--mode evaluate: {folder} has no samples of its newest checkpoint and these data; {remedy}"
            )
    if outdated:
        place.mkdir(exist_ok=True)
        history = metrics_log.read(folder / "metrics.jsonl")
        measured, pictures = judge(experiment, params, samples, history, place)
        sampling = workdir.read_json(folder / "sampling.json")
        found = {**measured, "sampling": sampling, "stamp": stamp}
        workdir.write_json(path, found)
        _add_events(experiment.config, folder, pictures, json.loads(stamp)["step"])
    if adds_fid:
        found = fid.entered(found, fid.judge(experiment, samples, folder, signals))
        workdir.write_json(path, found)
    if kind:
        exported = export.write(samples, kind, place / "export")
    rows, notes = table_of(experiment, found)
    workdir.write_json(place / summaries.TABLE, {"rows": rows, "notes": notes})
    console.say("\n" + "\n".join([console.table(rows), *notes]) + "\n")
    for picture in pictures:
        console.say(f"picture: {picture}")
    for file in exported:
        console.say(f"export: {file}")
    return found


def _add_events(config: Config, folder: Path, pictures: list[Path], step: int) -> None:
    """Adds the pictures to TensorBoard's events, if the run has them."""
    if config.tensorboard:
        events = tensorboard.Events(folder / tensorboard.FOLDER)
        for picture in pictures:
            events.picture(f"report/{picture.stem}", picture, step)
        events.close()


def _lacks_fid(experiment: Experiment, found: dict[str, Any]) -> bool:
    return found.get(fid.KEY, {}).get("made_from") != fid.made_from(experiment)


def judge(
    experiment: Experiment, params, samples: dict[str, np.ndarray], history: list[dict[str, Any]], place: Path
) -> tuple[dict[str, Any], list[Path]]:
    """Returns the metrics of the samples, and the pictures drawn in the folder `place`."""
    found = plain(measure(experiment, params, samples))
    taken = found.keys() & {"sampling", "stamp", fid.KEY}
    if taken:
        raise Refusal(
            f"the experiment's evaluate returns {min(taken)!r}, an entry of the launcher's; rename it"
        )
    draw = experiment.report or (lambda params, *rest: report(experiment, *rest))
    pictures = returned(draw(params, samples, history, place), list, "report")
    absent = [picture for picture in pictures if not Path(picture).is_file()]
    if absent:
        raise Refusal(f"the experiment's report returns {absent[0]}, and there is no such file")
    return found, pictures


def table_of(experiment: Experiment, found: dict[str, Any]) -> tuple[list[tuple[str, ...]], list[str]]:
    """Returns the rows of the table of the metrics, and the notes below it."""
    rows = returned((experiment.table or table)(found), list, "table")
    texts = [row for row in rows if isinstance(row, tuple | list) and all(isinstance(c, str) for c in row)]
    if not rows or len(texts) < len(rows) or len({len(row) for row in rows}) > 1:
        raise Refusal("the experiment's table must return rows of texts, all of the same length")
    return rows, [*map(str, found.get("notes", [])), *fid.lines(found, rows[0])]


def returned(value: Any, kind: type, name: str) -> Any:
    """Returns the value that a function of the experiment returned. Raises Refusal for another type."""
    if not isinstance(value, kind):
        what = f"the experiment's {name} returns {type(value).__name__}; it must return a {kind.__name__}"
        raise Refusal(what)
    return value


def plain(value: Any) -> Any:
    """Returns the value for JSON: numbers of NumPy and JAX as Python's, and None for a non-finite number.

    Keys of dictionaries become text, as they are after they have been read again.
    """
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return plain(np.asarray(value).tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def measure(experiment: Experiment, params, samples: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns the metrics of the samples: the experiment's own, or `compare`."""
    if experiment.evaluate is None:
        return compare(experiment, samples)
    return returned(experiment.evaluate(params, samples), dict, "evaluate")


# By default ---------------------------------------------------------------------------------------


def compare(experiment: Experiment, samples: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns the distances of each array of samples from training examples, by principal components."""
    require_finite(samples)
    reference = examples(experiment, REFERENCE)
    features = metrics.principal_components(reference)
    fits = lambda x: x.shape[1:] == reference.shape[1:]
    compared = lambda x: metrics.compare(np.asarray(x), reference, None, features, None)
    found = {name: compared(x) for name, x in samples.items() if fits(x)}
    components = features(reference[:1]).shape[1]
    about = {"reference_n": len(reference), "features": f"{components} principal components"}
    note = f"features: {about['features']}; distances in other features cannot be compared with these"
    return {"settings": about, "samplers": found, "notes": [note, *left_out(COLUMNS, found)]}


def left_out(titles: dict[str, str], rows: dict[str, dict[str, Any]]) -> list[str]:
    """Returns a line that names the metrics of `titles` that a row lacks, or no line."""
    missing = [title for name, title in titles.items() if any(row.get(name) is None for row in rows.values())]
    reasons = "too few samples or images, equal images, or samples of a class without images"
    return [f"not defined for these samples ({reasons}): {', '.join(missing)}"] if missing else []


def examples(experiment: Experiment, most: int) -> np.ndarray:
    """Returns up to `most` different training examples, float32: those of the first batches of the run."""
    config = experiment.config
    source = experiment.batches(batch=config.batch, seed=config.seed)
    batches = itertools.islice(source, -(-most // config.batch))
    found = np.concatenate([data.pixels.unit(np.asarray(batch["x"])) for batch in batches])[:most]
    _, first = np.unique(found.reshape(len(found), -1), axis=0, return_index=True)
    return found[np.sort(first)].astype(np.float32)


def table(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Returns a row for each array of samples."""
    found = results["samplers"]
    columns = COLUMNS | (FID if any("fid" in row for row in found.values()) else {})
    cells = lambda row: (cell(row, column) for column in columns)
    return [("sampler", *columns.values()), *((name, *cells(row)) for name, row in found.items())]


def cell(row: dict[str, Any], column: str) -> str:
    """Returns the metric with three decimals, or nothing if the row lacks it."""
    return "" if row.get(column) is None else f"{row[column]:.3f}"


def report(
    experiment: Experiment, samples: dict[str, np.ndarray], history: list[dict[str, Any]], place: Path
) -> list[Path]:
    """Draws the samples of each sampler beside examples, and the loss against the step.

    Of the first sampler's images it also draws the nearest of up to REFERENCE examples, by pixels.
    """
    real = examples(experiment, REFERENCE)
    alike = {name: x for name, x in samples.items() if x.shape[1:] == real.shape[1:]}
    with plots.page(place / "samples.png", columns=1 + len(alike), size=4.0) as axes:
        for each, (name, x) in zip(axes, {"data": real, **alike}.items(), strict=True):
            plots.examples(each, x, name)
    with plots.page(place / "loss.png", columns=1, size=7.0, height=4.5) as (axes,):
        plots.loss(axes, history)
    drawn = [place / "samples.png", place / "loss.png"]
    if real.ndim == 4 and alike:
        shown = next(iter(alike.values()))[:24]
        flat = lambda x: x.reshape(len(x), -1)
        _, nearest = metrics.nearest(flat(shown), flat(real))
        drawn.insert(1, place / "nearest.png")
        with plots.page(drawn[1], columns=1, size=7.0, height=2.75) as (axes,):
            title = "samples (rows 1 and 3), the nearest example to each below it"
            plots.pairs(axes, shown, real[nearest], title=title)
    return drawn

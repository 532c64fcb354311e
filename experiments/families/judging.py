"""Metrics of every family: distances in features, modes where they can be counted, and memorisation.

The features are the last hidden layer of a classifier if the data have classes, principal components for
images without labels, and the coordinates for points. `settings` in each result has the number of samples,
the number and the hash of the reference examples, the features, and the rounding.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.common.features import classifier
from experiments.families import setting as settings
from experiments.families.setting import Setting
from jaxscore import data, metrics
from jaxscore.launch import plots
from jaxscore.launch.evaluate import FID, cell

MOST = 2000
"""Maximum number of samples and of examples for distances and neighbours; modes use all samples."""

HALVES = 20
"""Number of random halves for an interval; the standard error of its width is then 16 %."""

COLUMNS = ("frechet", "precision", "recall", "density", "coverage", "memorisation")


class Judge(NamedTuple):
    """Functions of rounded examples, and the reference examples that samples are compared with."""

    features: Callable[[np.ndarray], np.ndarray]
    predict: Callable[[np.ndarray], np.ndarray] | None
    modes: Callable[[np.ndarray], tuple[np.ndarray, int]] | None
    """modes(examples) -> the mode of each example, and the number of modes there are."""
    reference: np.ndarray
    labels: np.ndarray
    about: dict[str, Any]


@functools.cache
def judge_of(name: str, folder: Path | None = None, size: int | None = None) -> Judge:
    """Returns the Judge of a data set. The cache makes all families use one classifier, fitted once."""
    setting = settings.of(name, folder, size)
    numbers = np.linspace(0, len(setting.train) - 1, min(MOST, len(setting.train))).astype(int)
    reference, labels = np.asarray(setting.train[numbers]), setting.labels[numbers]
    if name == "25gaussians":
        flat = lambda x: x.reshape(len(x), -1)
        mixture = settings.GRID()
        modes = lambda x: (metrics.assign(x, np.asarray(mixture.means), 0.05), 25)
        chosen = Judge(flat, None, modes, reference, labels, {"extractor": "coordinates"})
    elif name == "stacked_digits":
        chosen = _stacked(reference, labels)
    elif len(np.unique(labels)) > 1:
        features, predict = classifier(reference, labels)
        about = {
            "extractor": f"last hidden layer of MLPClassifier((128, 64)) fitted to {len(labels)} examples"
        }
        chosen = Judge(features, predict, None, reference, labels, about)
    else:
        about = {"extractor": "64 principal components"}
        chosen = Judge(metrics.principal_components(reference), None, None, reference, labels, about)
    rounded = "none" if setting.grey_values is None else f"to 1/{setting.grey_values}"
    about = {"reference_n": len(reference), "rounding": rounded}
    about["reference_hash"] = metrics.fingerprint(reference)
    return chosen._replace(about=chosen.about | about)


def _stacked(reference: np.ndarray, labels: np.ndarray) -> Judge:
    """Returns the Judge of stacked digits: a classifier of single digits, applied to each channel.

    `classifier_accuracy` is measured on a fifth of the digits, for a classifier fitted to the other digits.
    """
    digits, classes, _ = data.digits()
    held = np.arange(len(digits)) % 5 == 0
    _, predict = classifier(digits[~held], classes[~held])
    accuracy = float(np.mean(predict(digits[held]) == classes[held]))
    features, predict = classifier(digits, classes)
    channels = lambda x: [x[..., channel : channel + 1] for channel in range(x.shape[-1])]
    together = lambda x: np.concatenate([features(channel) for channel in channels(x)], axis=1)
    modes = lambda x: (metrics.stacked(np.stack([predict(c) for c in channels(x)], axis=1)), 1000)
    about = {"extractor": "MLPClassifier((128, 64)) of single digits, channel by channel"}
    about["classifier_accuracy"] = accuracy
    return Judge(together, None, modes, reference, labels, about)


def evaluate(setting: Setting, bits, params, samples: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns metrics of each sampler's samples, and `bits` if the family has a density or a bound of it."""
    found = judge_of(*setting.source)
    rounded = _rounding(setting)
    held_out, train = np.asarray(setting.held_out)[:MOST], _all(setting.train)
    results = {name: _judged(found, rounded(x), (train, held_out)) for name, x in samples.items()}
    finite = (name for name, result in results.items() if result["finite"])
    reaches = {name: _reaches(found, rounded(samples[name])) for name in finite}
    n = len(next(iter(samples.values())))
    extra = {} if bits is None else {"bits": float(bits(params))}
    about = {"n": n, "n_distances": min(n, MOST), **found.about}
    return {"settings": about, "samplers": results, "reaches": reaches, **extra}


def _judged(found: Judge, x: np.ndarray, split) -> dict[str, float]:
    finite = bool(np.isfinite(x).all())
    if not finite:
        return {"finite": False}
    few = x[:MOST]
    result = metrics.compare(few, found.reference, found.labels, found.features, found.predict, split=split)
    if found.modes is not None:
        modes = metrics.modes_found(*found.modes(x))
        result |= {"modes": modes.found, "mode_kl": modes.kl, "high_quality": modes.assigned}
    return {"finite": True, **{name: float(value) for name, value in result.items()}}


def _reaches(found: Judge, x: np.ndarray) -> dict[str, float]:
    """Half-widths of 95 % intervals of the metrics: their variation with other samples and other data.

    They do not include the variation between trainings.
    """
    ours, theirs = found.features(x[:MOST]), found.features(found.reference)
    names = "frechet", "kid", "precision", "recall"
    several = lambda x, y: np.array(
        [metrics.frechet(x, y), metrics.kid(x, y), *metrics.precision_recall(x, y)]
    )
    if min(len(ours), len(theirs)) < metrics.FEW:
        return {}
    halves = metrics.half_samples(several, ours, theirs, resamples=HALVES)
    return dict(zip(names, (halves.high - halves.value).tolist(), strict=True))


def _rounding(setting: Setting) -> Callable[[np.ndarray], np.ndarray]:
    if setting.grey_values is None:
        return lambda x: np.asarray(x)
    return lambda x: metrics.round_to(np.asarray(x), setting.grey_values)


def _all(train: data.Examples) -> np.ndarray:
    """Returns the training examples, or 10,000 of them at even distances if there are more."""
    numbers = np.linspace(0, len(train) - 1, min(10_000, len(train))).astype(int)
    return np.asarray(train[numbers])


def table(results: dict) -> list[tuple[str, ...]]:
    """Returns a row for each sampler, with the metrics that it has."""
    rows = results["samplers"]
    known = (*COLUMNS, "modes", "mode_kl", "fid")
    columns = [name for name in known if any(name in row for row in rows.values())]
    show = lambda row: (cell(row, name) for name in columns)
    return [
        ("sampler", *(FID.get(name, name) for name in columns)),
        *((name, *show(row)) for name, row in rows.items()),
    ]


def report(setting: Setting, params, samples, history, folder: Path) -> list[Path]:
    """Draws a grid of samples for each sampler, and returns the path of the picture."""
    with plots.page(folder / "samples.png", columns=len(samples), size=4.0) as axes:
        for place, (name, x) in zip(axes, samples.items(), strict=True):
            plots.examples(place, x, name)
    return [folder / "samples.png"]

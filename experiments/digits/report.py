"""How the digits experiment judges its samples, and the pictures that it draws."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.features import classifier
from jaxscore import keys, metrics, samplers
from jaxscore.keys import Stream
from jaxscore.launch import plots
from jaxscore.score import denoise
from jaxscore.types import Array, Params, ScoreFn, right

BIN_EDGES = (0.1, 0.25, 0.6, 1.5)
"""The edges of the bins of the loss by noise level."""

ROWS = {"heun": "Heun", "langevin": "annealed Langevin", "langevin_without_denoising": "  without denoising"}
"""The arrays of samples.npz, and their titles in the table."""

COLUMNS = {
    "frechet": "Frechet",
    "precision": "precision",
    "recall": "recall",
    "class_kl": "class KL",
    "nearest_neighbour_ratio": "neighbour ratio",
    "agreement": "agreement",
}
"""The metrics in the table, and their titles; agreement: fraction of samples of the class asked for."""


def evaluate(
    config, digits, evaluations: dict[str, int], params: Params, samples: dict[str, np.ndarray]
) -> dict:
    """Compares every array of samples with all images, or with the images of --label.

    Each result has the means over several classifiers and, under `by_classifier`, the single values.
    """
    chosen = np.full(len(digits.labels), True) if config.label is None else digits.labels == config.label
    images, labels = digits.images[chosen], digits.labels[chosen]
    rounded = {name: metrics.round_to(x, config.grey_values) for name, x in samples.items()}
    singles, halves = {name: [] for name in rounded}, []
    for seed in range(config.classifiers):
        features, predict = classifier(digits.images, digits.labels, seed=seed)
        halves.append(metrics.frechet(features(images[::2]), features(images[1::2])))
        for name, x in rounded.items():
            row = metrics.compare(x, images, labels, features, predict)
            if config.conditional and digits.classes:
                row["agreement"] = float(np.mean(predict(x) == wanted(config, digits, len(x))))
            singles[name].append(row)
    mean = lambda rows: {column: float(np.mean([row[column] for row in rows])) for column in rows[0]}
    results = {
        name: {"evaluations": evaluations[name], **mean(rows), "by_classifier": rows}
        for name, rows in singles.items()
    }
    settings = {
        "n": config.samples,
        "reference_n": len(images),
        "features": "last hidden layer of MLPClassifier((128, 64)) fitted to all images",
        "classifiers": config.classifiers,
        "rounded_to": f"1/{config.grey_values}",
    }
    return {"settings": settings, "real": {"halves_frechet": float(np.mean(halves))}, **results}


def wanted(config, digits, n: int) -> np.ndarray:
    """Returns the classes of n samples that were asked for."""
    return np.arange(n) % digits.classes if config.label is None else np.full(n, config.label)


def table(results: dict) -> list[tuple[str, ...]]:
    """Returns a row for each array of samples."""
    columns = {column: title for column, title in COLUMNS.items() if column in results["heun"]}
    rows = [("sampler", "evaluations", *columns.values())]
    for name, title in ROWS.items():
        row = results[name]
        rows.append((title, str(row["evaluations"]), *(f"{row[column]:.3f}" for column in columns)))
    real = f"{results['real']['halves_frechet']:.3f}"
    return [*rows, ("real, half to half", "", real, *[""] * (len(columns) - 1))]


def report(
    config,
    digits,
    score_of: Callable[[Params, Array], ScoreFn],
    sigmas: Array,
    params: Params,
    samples: dict[str, np.ndarray],
    history: list[dict[str, Any]],
    folder: Path,
) -> list[Path]:
    """Draws samples beside real digits, the way from noise to digit, nearest neighbours, and the losses.

    Args:
        config, digits: flags and data of the experiment.
        score_of: score_of(params, numbers) -> the score for the samples with these numbers.
        sigmas: the levels of Heun's method.
        params, samples, history, folder: what the launcher gives to every report.
    """
    images, pictures = digits.images, ["samples", "trajectory", "nearest", "loss"]
    rng = np.random.default_rng(config.seed)
    real = images[rng.choice(len(images), 100, replace=len(images) < 100)]
    with plots.page(folder / "samples.png", columns=3, size=4.0) as (first, second, third):
        plots.images(first, real, rows=10, title="real digits")
        plots.images(second, samples["heun"][:100], rows=10, title="Heun on the probability flow")
        plots.images(third, samples["langevin"][:100], rows=10, title="annealed Langevin")
    six = jnp.arange(6)
    draw_trajectory(config, digits, score_of(params, six), sigmas, folder / "trajectory.png")
    shown = samples["heun"][:24]
    flat = lambda x: x.reshape(len(x), -1)
    _, nearest = metrics.nearest(flat(shown), flat(images))
    with plots.page(folder / "nearest.png", columns=1, size=7.0, height=2.7) as (axes,):
        title = "samples (rows 1 and 3), the nearest real digit to each below it"
        plots.pairs(axes, shown, images[nearest], title=title)
    with plots.page(folder / "loss.png", columns=1, size=7.0, height=4.5) as (axes,):
        plots.loss(axes, history)
    if config.conditional and digits.classes:
        draw_classes(config, digits, samples["heun"], folder / "classes.png")
        pictures.append("classes")
    return [folder / f"{name}.png" for name in pictures]


def draw_classes(config, digits, x: np.ndarray, path: Path) -> None:
    """Draws a row of up to 20 samples for each class that was asked for."""
    asked = wanted(config, digits, len(x))
    rows = [x[asked == label][:20] for label in np.unique(asked)]
    columns = min(map(len, rows))
    grid = np.concatenate([row[:columns] for row in rows])
    with plots.page(path, columns=1, size=8.0, height=8.0 * len(rows) / columns + 0.4) as (axes,):
        plots.images(axes, grid, rows=len(rows), title="a row for each class, by Heun's method")


def draw_trajectory(config, digits, score: ScoreFn, sigmas: Array, path: Path) -> None:
    """Draws six samples at every level: x, scaled to the spread of the data, and the expected digit."""
    noisy, clean = trajectory(score, sigmas, digits.event, seed=config.seed)
    scale = digits.sigma_data / np.sqrt(np.tile(sigmas, 6) ** 2 + digits.sigma_data**2)
    noisy, clean = digits.pixels(right(scale, noisy) * noisy), digits.pixels(clean)
    with plots.page(path, columns=1, rows=2, size=6.5, height=4.3) as (above, below):
        title = f"x from σ = {sigmas[0]:g} (left) to 0 (right), scaled to the spread of the data"
        plots.images(above, noisy, rows=6, title=title)
        plots.images(below, clean, rows=6, title="the digit expected from each: x + σ² s(x, σ)")


def trajectory(
    score: ScoreFn, sigmas: Array, event: tuple[int, ...], *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns x and E[x0 | x] of six samples at all levels, sample by sample, [6 len(sigmas), *event]."""
    key_start, key_steps = jax.random.split(keys.stream(seed, Stream.REPORT))

    @jax.jit
    def follow():
        start = samplers.prior(key_start, (6, *event), sigmas[0])
        keep = lambda x, memory: x
        _, path = samplers.sample(key_steps, start, sigmas, score, samplers.heun(), collect=keep)
        path = jnp.concatenate([start[None], path])
        levels = jnp.broadcast_to(sigmas[:-1, None], (len(sigmas) - 1, 6))
        expected = jax.vmap(partial(denoise, score))(path[:-1], levels)
        return path, jnp.concatenate([expected, path[-1:]])

    by_sample = lambda x: np.swapaxes(np.asarray(x), 0, 1).reshape(-1, *event)
    path, expected = follow()
    return by_sample(path), by_sample(expected)

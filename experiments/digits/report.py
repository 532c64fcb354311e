"""How the digits experiment judges its samples, and the pictures that it draws."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.features import classifier
from jaxscore import metrics, noise, samplers
from jaxscore.launch import plots
from jaxscore.score import denoise
from jaxscore.types import right

BIN_EDGES = (0.1, 0.25, 0.6, 1.5)
"""Where the bins of the loss by noise level meet."""

ROWS = {
    "samples": "Heun",
    "langevin": "annealed Langevin",
    "langevin_without_denoising": "  without denoising",
}
"""What the arrays of samples.npz are called in the table."""


def evaluate(config, images, labels, params, samples) -> dict:
    """Every array of samples against all images, in the features of several classifiers.

    Each result has the means over the classifiers and, under `by_classifier`, the single values.
    """
    cost = {
        "samples": 2 * config.heun.levels - 1,
        "langevin": config.langevin.levels * config.langevin.steps + 1,
        "langevin_without_denoising": config.langevin.levels * config.langevin.steps,
    }
    rounded = {name: metrics.round_to(x, config.grey_values) for name, x in samples.items()}
    singles = {name: [] for name in rounded}
    halves = []
    for seed in range(config.classifiers):
        features, predict = classifier(images, labels, seed=seed)
        halves.append(metrics.frechet(features(images[::2]), features(images[1::2])))
        for name, x in rounded.items():
            singles[name].append(metrics.compare(x, images, labels, features, predict))
    mean = lambda rows: {column: float(np.mean([row[column] for row in rows])) for column in rows[0]}
    return {
        "settings": {
            "n": config.samples,
            "reference_n": len(images),
            "features": "last hidden layer of MLPClassifier((128, 64)) fitted to all images",
            "classifiers": config.classifiers,
            "rounded_to": f"1/{config.grey_values}",
        },
        "real": {"halves_frechet": float(np.mean(halves))},
        **{
            name: {"evaluations": cost[name], **mean(rows), "by_classifier": rows}
            for name, rows in singles.items()
        },
    }


def table(results: dict) -> list[tuple[str, ...]]:
    """A row for each array of samples."""
    columns = ("frechet", "precision", "recall", "class_kl", "nearest_neighbour_ratio")
    rows = [("sampler", "evaluations", "Frechet", "precision", "recall", "class KL", "neighbour ratio")]
    for name, title in ROWS.items():
        row = results[name]
        rows.append((title, str(row["evaluations"]), *(f"{row[column]:.3f}" for column in columns)))
    return [*rows, ("real, half to half", "", f"{results['real']['halves_frechet']:.3f}", "", "", "", "")]


def report(config, score, pixels, images, params, samples, history, folder: Path) -> list[Path]:
    """Samples beside real digits, the way from noise to digit, nearest neighbours, and the losses."""
    rng = np.random.default_rng(config.seed)
    real = images[rng.choice(len(images), 100, replace=len(images) < 100)]
    with plots.page(folder / "samples.png", columns=3, size=4.0) as (first, second, third):
        plots.images(first, real, rows=10, title="real digits")
        plots.images(second, samples["samples"][:100], rows=10, title="Heun on the probability flow")
        plots.images(third, samples["langevin"][:100], rows=10, title="annealed Langevin")
    noisy, clean, sigmas = trajectory(config, partial(score, params), images.shape[1:])
    sigma_data = 2 * float(np.std(images - images.mean(axis=0)))
    scale = sigma_data / np.sqrt(np.tile(sigmas, 6) ** 2 + sigma_data**2)
    noisy, clean = pixels(right(scale, noisy) * noisy), pixels(clean)
    with plots.page(folder / "trajectory.png", columns=1, rows=2, size=6.5, height=4.3) as (above, below):
        title = f"x from σ = {sigmas[0]:g} (left) to 0 (right), scaled to the spread of the data"
        plots.images(above, noisy, rows=6, title=title)
        plots.images(below, clean, rows=6, title="the digit expected from each: x + σ² s(x, σ)")
    shown = samples["samples"][:24]
    flat = lambda x: x.reshape(len(x), -1)
    _, nearest = metrics.nearest(flat(shown), flat(images))
    with plots.page(folder / "nearest.png", columns=1, size=7.0, height=2.7) as (axes,):
        title = "samples (rows 1 and 3), the nearest real digit to each below it"
        plots.pairs(axes, shown, images[nearest], title=title)
    with plots.page(folder / "loss.png", columns=1, size=7.0, height=4.5) as (axes,):
        plots.loss_by_sigma(axes, history, BIN_EDGES)
    return [folder / f"{name}.png" for name in ("samples", "trajectory", "nearest", "loss")]


def trajectory(config, score, event) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Six samples at every level of Heun's grid, row by row: x, E[x0 | x], and the levels."""
    sigmas = noise.levels(noise.karras(config.heun.sigma_min, config.heun.sigma_max), config.heun.levels)
    key_start, key_steps = jax.random.split(jax.random.key(config.seed))

    @jax.jit
    def follow():
        start = samplers.prior(key_start, (6, *event), sigmas[0])
        keep = lambda x, memory: x
        _, path = samplers.sample(key_steps, start, sigmas, score, samplers.heun(), collect=keep)
        path = jnp.concatenate([start[None], path])
        levels = jnp.broadcast_to(sigmas[:-1, None], (len(sigmas) - 1, 6))
        expected = jax.vmap(partial(denoise, score))(path[:-1], levels)
        return path, jnp.concatenate([expected, path[-1:]])

    row_by_row = lambda x: np.swapaxes(np.asarray(x), 0, 1).reshape(-1, *event)
    path, expected = follow()
    return row_by_row(path), row_by_row(expected), np.asarray(sigmas)

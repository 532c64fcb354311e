"""How the digits experiment judges its samples, and the pictures that it draws."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import report as common
from experiments.common.features import judges
from jaxscore import keys, samplers
from jaxscore.keys import Stream
from jaxscore.launch import balanced, plots
from jaxscore.score import denoise
from jaxscore.types import Array, Params, ScoreFn, right

BIN_EDGES = (0.1, 0.25, 0.6, 1.5)
"""The edges of the bins of the loss by noise level."""

ROWS = {"heun": "Heun", "langevin": "annealed Langevin", "langevin_without_denoising": "  without denoising"}
"""The arrays of samples.npz, and their titles in the table."""

table = partial(common.table, ROWS)


def evaluate(
    config, digits, evaluations: dict[str, int], params: Params, samples: dict[str, np.ndarray]
) -> dict:
    """Compares every array of samples with all images, or with the images of --label (`common.judged`)."""
    chosen = asked_for(config, digits)
    images, labels = digits.images[chosen], digits.labels[chosen]
    found = judges(digits.images, digits.labels, images, n=config.classifiers)
    asked = partial(agreement, config, digits)
    return common.judged(config, *found, samples, images, labels, evaluations, asked)


def asked_for(config, digits) -> np.ndarray:
    """Returns which images the samples are compared with: all, or those of --label."""
    return np.full(len(digits.labels), True) if config.label is None else digits.labels == config.label


def agreement(config, digits, name: str, x: np.ndarray, judge: common.Judge) -> dict[str, float]:
    """Returns the fraction of samples whose class is the one that was asked for, if one was."""
    _, predict = judge
    if predict is None or not (config.conditional and len(digits.classes)):
        return {}
    return {"agreement": float(np.mean(predict(x) == wanted(config, digits, len(x))))}


def wanted(config, digits, n: int) -> np.ndarray:
    """Returns the classes of n samples that were asked for."""
    numbers = balanced(len(digits.classes), digits.number(config.label))(np.arange(n))
    return digits.classes[np.asarray(numbers)]


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
    images = digits.images[asked_for(config, digits)]
    grids = {
        f"real {thing(config)}s": common.some(images, 100, config.seed),
        "Heun on the probability flow": samples["heun"],
        "annealed Langevin": samples["langevin"],
    }
    paths = common.draw(folder, grids, images, history, 4.0)
    paths.insert(1, folder / "trajectory.png")
    draw_trajectory(config, digits, score_of(params, jnp.arange(6)), sigmas, paths[1])
    if config.conditional and len(digits.classes):
        paths.append(folder / "classes.png")
        x = samples["heun"]
        common.draw_classes(x, wanted(config, digits, len(x)), paths[-1], ", by Heun's method")
    return paths


def thing(config) -> str:
    """Returns what the images are called in titles."""
    return "digit" if config.data == "digits" else "image"


def draw_trajectory(config, digits, score: ScoreFn, sigmas: Array, path: Path) -> None:
    """Draws six samples at every level: x, scaled to the spread of the data, and the expected digit."""
    noisy, clean = trajectory(score, sigmas, digits.moments, seed=config.seed)
    scale = digits.sigma_data / np.sqrt(np.tile(sigmas, 6) ** 2 + digits.sigma_data**2)
    noisy, clean = digits.pixels(right(scale, noisy) * noisy), digits.pixels(clean)
    with plots.page(path, columns=1, rows=2, size=6.5, height=4.3) as (above, below):
        title = f"x from σ = {sigmas[0]:g} (left) to 0 (right), scaled to the spread of the data"
        plots.images(above, noisy, rows=6, title=title)
        plots.images(below, clean, rows=6, title=f"the {thing(config)} expected from each: x + σ² s(x, σ)")


def trajectory(
    score: ScoreFn, sigmas: Array, moments: samplers.Moments, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns x and E[x0 | x] of six samples at all levels, sample by sample, [6 len(sigmas), *event]."""
    key_start, key_steps = jax.random.split(keys.stream(seed, Stream.REPORT))
    event = moments.mean.shape

    @jax.jit
    def follow():
        start = samplers.prior(key_start, (6, *event), sigmas[0], moments)
        keep = lambda x, memory: x
        _, path = samplers.sample(key_steps, start, sigmas, score, samplers.heun(), collect=keep)
        path = jnp.concatenate([start[None], path])
        levels = jnp.broadcast_to(sigmas[:-1, None], (len(sigmas) - 1, 6))
        expected = jax.vmap(partial(denoise, score))(path[:-1], levels)
        return path, jnp.concatenate([expected, path[-1:]])

    by_sample = lambda x: np.swapaxes(np.asarray(x), 0, 1).reshape(-1, *event)
    path, expected = follow()
    return by_sample(path), by_sample(expected)

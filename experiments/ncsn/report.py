"""Metrics and pictures of the NCSN experiment."""

from functools import partial
from pathlib import Path

import jax
import numpy as np

from experiments.common import report as common
from experiments.common.features import epochs_for, judges
from jaxscore import keys, noise
from jaxscore.keys import Stream
from jaxscore.launch import plots

ROWS = {"samples": "annealed Langevin", "without_denoising": "  without denoising"}
"""Titles in the table, by the name of the array in samples.npz."""

table = partial(common.table, ROWS)


def evaluate(config, evaluations, images, labels, params, samples) -> dict:
    """Returns the metrics of the samples with and without the final denoising, in features and in pixels.

    The features are those of `judges`.
    """
    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[: config.reference])
    reference = images[chosen]
    epochs = epochs_for(len(images))
    found = judges(images, labels, reference, n=config.classifiers, epochs=epochs)
    return common.judged(config, *found, samples, reference, labels[chosen], evaluations)


def report(config, annealing, images, params, samples, history, folder: Path) -> list[Path]:
    """Draws samples beside real images, their nearest real images, the annealing, and the losses."""
    grids = {
        "real images": common.some(images, 100, config.seed),
        "annealed Langevin dynamics": samples["samples"],
        "without the final denoising": samples["without_denoising"],
    }
    chosen = np.random.default_rng(config.seed).permutation(len(images))[: config.reference]
    paths = common.draw(folder, grids, images[np.sort(chosen)], history, 5.0)
    paths.insert(2, folder / "annealing.png")
    _draw_annealing(config, annealing, params, paths[2])
    return paths


def _draw_annealing(config, annealing, params, path: Path) -> None:
    """Draws six samples at ten noise levels, and the norm of the score and signal-to-noise ratio by level."""
    rows = noise.row_keys(keys.stream(config.seed, Stream.REPORT), 6)
    frames, at_level = jax.device_get(annealing(params, rows))
    sigmas = np.geomspace(config.sigma_max, config.sigma_min, config.levels)
    kept = np.linspace(0, config.levels - 1, min(10, config.levels)).round().astype(int)
    way = np.clip(frames[kept].swapaxes(0, 1).reshape(-1, *frames.shape[2:]), 0, 1)
    with plots.page(path, columns=2, size=6.5, height=4.2) as (left, right):
        first, last = sigmas[kept[0]], sigmas[kept[-1]]
        plots.images(left, way, rows=6, title=f"from σ = {first:g} (left) to {last:g}")
        right.semilogx(sigmas, at_level.score_norm, color=plots.BLUE, label="|s| σ / √D")
        right.semilogx(
            sigmas, at_level.signal_to_noise, color=plots.ORANGE, label="signal to noise of a step"
        )
        right.invert_xaxis()
        right.set(xlabel="σ", ylim=(0, None))
        right.set_title("the steps at every level", fontsize=10)
        right.legend(fontsize=8)

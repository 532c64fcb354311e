"""Metrics and pictures of the NCSN experiment."""

from pathlib import Path

import jax
import numpy as np

from experiments.common.features import classifier
from jaxscore import data, keys, metrics, noise
from jaxscore.keys import Stream
from jaxscore.launch import plots

ROWS = {"samples": "annealed Langevin", "without_denoising": "  without denoising"}
"""Titles in the table, by the name of the array in samples.npz."""

SHOWN = 100
"""Number of images in a grid."""


def evaluate(config, evaluations, images, labels, params, samples) -> dict:
    """Returns the metrics of the samples with and without the final denoising, in features and in pixels.

    The features are the last hidden layer of a classifier that is fitted to all images. If there are no
    classes, or if the images do not fit in memory, they are the first principal components of the reference.
    """
    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[: config.reference])
    reference, classes = images[chosen], labels[chosen]
    judges = list(_judges(config, images, labels, reference))
    result = {
        "settings": {
            "n": config.samples,
            "reference_n": len(reference),
            "features": judges[0][2],
            "classifiers": len(judges),
            "rounded_to": f"1/{config.grey_values}",
        },
        "real": {
            "halves_frechet": _mean(
                metrics.frechet(f(reference[::2]), f(reference[1::2])) for f, *_ in judges
            )
        },
    }
    for name, x in samples.items():
        x = metrics.round_to(x, config.grey_values)
        rows = [metrics.compare(x, reference, classes, features, predict) for features, predict, _ in judges]
        means = {column: _mean(row[column] for row in rows) for column in rows[0]}
        result[name] = {"evaluations": evaluations[name], **means, "by_judge": rows}
    return result


def _mean(values) -> float:
    return float(np.mean(list(values)))


def _judges(config, images, labels, reference):
    """Yields functions for the features and for the class (or None), and a description of the features."""
    if data.fits(images) and labels.max() > 0:
        images = images[:]
        # With 60,000 images, 15 epochs take as many steps as 200 epochs with about 4,500 images.
        epochs = int(np.clip(900_000 / len(images), 15, 200))
        for seed in range(config.classifiers):
            name = f"last hidden layer of MLPClassifier((128, 64)) fitted to all {len(images)} images"
            yield *classifier(images, labels, seed=seed, epochs=epochs), name
    else:
        yield metrics.principal_components(reference), None, "64 principal components of the reference"


def table(results: dict) -> list[tuple[str, ...]]:
    """Returns a row for each array of samples, and one for two halves of the real images."""
    columns = ["frechet", "precision", "recall", "class_kl", "nearest_neighbour_ratio"]
    titles = ["Frechet", "precision", "recall", "class KL", "neighbour ratio"]
    lines = [("sampler", "evaluations", *titles)]
    for name, title in ROWS.items():
        row = results[name]
        cells = (f"{row[column]:.3f}" if column in row else "" for column in columns)
        lines.append((title, str(row["evaluations"]), *cells))
    return [*lines, ("real, half to half", "", f"{results['real']['halves_frechet']:.3f}", "", "", "", "")]


def report(config, annealing, images, params, samples, history, folder: Path) -> list[Path]:
    """Draws samples beside real images, their nearest real images, the annealing, and the losses."""
    rng = np.random.default_rng(config.seed)
    real = images[rng.choice(len(images), SHOWN, replace=len(images) < SHOWN)]
    with plots.page(folder / "samples.png", columns=3, size=5.0) as (first, second, third):
        plots.images(first, real, rows=10, title="real images")
        plots.images(second, samples["samples"][:SHOWN], rows=10, title="annealed Langevin dynamics")
        plots.images(
            third, samples["without_denoising"][:SHOWN], rows=10, title="without the final denoising"
        )
    shown = samples["samples"][:24]
    reference = images[np.sort(rng.permutation(len(images))[: config.reference])]
    flat = lambda x: x.reshape(len(x), -1)
    _, nearest = metrics.nearest(flat(shown), flat(reference))
    with plots.page(folder / "nearest.png", columns=1, size=9.0, height=3.4) as (axes,):
        title = "samples (rows 1 and 3), the nearest real image to each below it"
        plots.pairs(axes, shown, reference[nearest], title=title)
    _draw_annealing(config, annealing, params, folder / "annealing.png")
    with plots.page(folder / "loss.png", columns=1, size=7.0, height=4.5) as (axes,):
        plots.loss(axes, history)
    return [folder / f"{name}.png" for name in ("samples", "nearest", "annealing", "loss")]


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

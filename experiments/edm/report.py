"""Metrics and pictures of the EDM experiment."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.common import report as common
from experiments.common.features import epochs_for, judges
from jaxscore import data, keys, noise
from jaxscore.keys import Stream
from jaxscore.launch import balanced, plots
from jaxscore.metrics import precision_recall, round_to
from jaxscore.types import Params

ROWS = {"samples": "samples", "training": "training images"}
"""Titles in the table."""

table = partial(common.table, ROWS)

SCALES = (1.0, 1.5, 2.0, 3.0, 4.0)
"""Scales of guidance in the picture guidance.png."""

COMPARED = 1000
"""Samples of each scale, and images, of which precision and recall are computed for the picture."""


def reference_of(config, source: data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images that samples are compared with, and their classes, drawn at random.

    They are test images if the data have any, and of --sampling.label if it is given.
    """
    tested = "test" in data.splits(config.data, config.data_dir)
    found = data.load(config.data, config.data_dir, split="test", size=config.size) if tested else source
    chosen = np.random.default_rng(0).permutation(of_class(config, found.labels))
    chosen = np.sort(chosen[: config.reference])
    return data.pixels.unit(np.asarray(found.examples[chosen])), found.labels[chosen]


def of_class(config, labels: np.ndarray) -> np.ndarray:
    """Returns the indices of the images of --sampling.label, or of all."""
    label = config.sampling.label
    return np.arange(len(labels)) if label is None else np.flatnonzero(labels == label)


def judges_of(config, source: data.Dataset, reference: np.ndarray):
    """Returns the judges of samples, and what their features are; they are fitted to training images."""
    epochs = epochs_for(len(source.labels))
    return judges(source.examples, source.labels, reference, n=config.classifiers, epochs=epochs)


def evaluate(config, evaluations: int, source: data.Dataset, params: Params, samples: dict) -> dict:
    """Returns the metrics of the samples, and of as many training images of the same classes."""
    reference, labels = reference_of(config, source)
    chosen = np.random.default_rng(1).permutation(of_class(config, source.labels))
    chosen = np.sort(chosen[: len(samples["samples"])])
    asked = {"samples": wanted(config, len(samples["samples"])), "training": source.labels[chosen]}
    real = data.pixels.unit(np.asarray(source.examples[chosen]))

    def agreement(name: str, x: np.ndarray, judge: common.Judge) -> dict[str, float]:
        known = judge[1] is not None and config.conditional
        return {"agreement": float(np.mean(judge[1](x) == asked[name]))} if known else {}

    return common.judged(
        config,
        *judges_of(config, source, reference),
        {**samples, "training": real},
        reference,
        labels,
        {"samples": evaluations, "training": 0},
        agreement,
    )


def wanted(config, n: int) -> np.ndarray:
    """Returns the classes of n samples that were asked for."""
    return np.asarray(balanced(max(config.classes, 1), config.sampling.label)(np.arange(n)))


def report(
    config,
    source: data.Dataset,
    draw: Callable[..., Any],
    params: Params,
    samples: dict[str, np.ndarray],
    history: list[dict[str, Any]],
    folder: Path,
) -> list[Path]:
    """Draws samples beside real images, their nearest training images, classes, guidance and the losses.

    Args:
        config, source: flags and data of the experiment.
        draw: draw(params, keys, condition, scale) -> images.
        params, samples, history, folder: what the launcher gives to every report.
    """
    images = data.pixels.unit(np.asarray(source.examples[:60_000]))
    grids = {"real images": common.some(images, 100, config.seed), "samples": samples["samples"]}
    paths = common.draw(folder, grids, images, history, 5.0)
    if not config.conditional:
        return paths
    paths.append(folder / "classes.png")
    common.draw_classes(samples["samples"], wanted(config, len(samples["samples"])), paths[-1])
    if config.p_uncond or config.sampling.guide:
        paths.append(folder / "guidance.png")
        n = min(COMPARED, len(samples["samples"]), config.reference)
        _draw_guidance(config, source, draw, params, n, paths[-1])
    return paths


def latents(
    source: data.Dataset,
    params: Params,
    samples: dict[str, np.ndarray],
    history: list[dict[str, Any]],
    folder: Path,
) -> list[Path]:
    """Draws latents beside those of the data, on a grey scale from their 1st to their 99th percentile."""
    real = np.asarray(source.examples[:64])
    low, high = np.quantile(real, (0.01, 0.99))
    with plots.page(folder / "samples.png", columns=2, size=5.0) as axes:
        for each, (title, x) in zip(axes, {"data": real, **samples}.items(), strict=True):
            plots.examples(each, (x[:64] - low) / max(high - low, 1e-6), f"{title}, {low:.2g} to {high:.2g}")
    with plots.page(folder / "loss.png", columns=1, size=7.0, height=4.5) as (axes,):
        plots.loss(axes, history)
    return [folder / "samples.png", folder / "loss.png"]


def _draw_guidance(config, source: data.Dataset, draw, params: Params, n: int, path: Path) -> None:
    """Draws the same 20 samples with each scale of guidance, with precision and recall of n of them."""
    reference = reference_of(config, source)[0][:n]
    features = judges_of(config, source, reference)[0][0][0]
    rows = noise.row_keys(keys.stream(config.seed, Stream.REPORT), n)
    condition, size = jnp.asarray(wanted(config, n)), min(config.sample_batch, n)
    grids, names = [], []
    for scale in SCALES:
        parts = range(0, n - size + 1, size)
        drawn = [draw(params, rows[i : i + size], condition[i : i + size], jnp.float32(scale)) for i in parts]
        x = round_to(np.concatenate([np.asarray(part) for part in drawn]), config.grey_values)
        precision, recall = precision_recall(features(x), features(reference))
        grids.append(x[:20])
        names.append(f"scale {scale:g}: precision {precision:.2f}, recall {recall:.2f}")
    with plots.page(path, columns=1, size=10.0, height=2.5) as (axes,):
        title = "the same noise with more and more guidance"
        plots.images(axes, np.concatenate(grids), rows=len(SCALES), title=title, names=names)

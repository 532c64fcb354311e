"""All distances between samples and data in one call, in features and in pixels.

>>> images, samples = np.random.default_rng(0).random((2, 200, 4, 4, 1))
>>> flat = lambda x: x.reshape(len(x), -1)
>>> found = compare(round_to(samples, 255), round_to(images, 255), None, flat, None)
>>> sorted(found)[:4]
['coverage', 'density', 'frechet', 'kid']
"""

import hashlib
from collections.abc import Callable

import jax
import numpy as np

from jaxscore import sharding
from jaxscore.metrics import copies, coverage, distances, kernels
from jaxscore.types import AnyArray

Function = Callable[[np.ndarray], np.ndarray]


def compare(
    x: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray | None,
    features: Function,
    predict: Function | None,
    *,
    split: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, float]:
    """Metrics of samples against images, by name: in features, in pixels, and by class if `predict` is given.

    Every metric is finite. Leaves out a metric that is undefined for so few samples or images (`kid` for
    fewer than FEW, because its variance is then too large) and a metric that is not finite: the distance
    ratio of images that are duplicates, and `class_kl` of samples in a class that no image has.

    Args:
        x: samples [n, ...], rounded in the same way as the images.
        images: images to compare with [m, ...].
        labels: class numbers of the images [m]; used only with `predict`.
        features: maps images to features [n, d].
        predict: maps images to class numbers [n]; None omits `class_kl`.
        split: training examples and held-out examples, split at random and rounded as the samples are. Adds
            `memorisation`, the fraction of samples that are copies (about 0 without copies, 1 for copies
            only), and `memorisation_z`, its value in standard deviations.
    """
    ours, theirs = features(x), features(images)
    where = devices(len(x) * len(images))
    flat = lambda a: a.reshape(len(a), -1)
    few = min(len(x), len(images))
    found = _covering(ours, theirs, where)
    if few >= 2:
        found = {"frechet": distances.frechet(ours, theirs), **found}
    if few >= FEW:
        found["kid"] = kernels.kid(ours, theirs)
    if predict is not None:
        found["class_kl"] = distances.class_kl(predict(x), labels)
    if len(images) >= 2:
        found["nearest_neighbour_ratio"] = copies.nearest_neighbour_ratio(flat(x), flat(images), mesh=where)
    found["sliced_wasserstein"] = distances.sliced_wasserstein(flat(x), flat(images))
    if split is not None:
        found |= _memorisation(flat(x), *map(flat, split))
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _covering(ours: np.ndarray, theirs: np.ndarray, where: jax.sharding.Mesh | None) -> dict[str, float]:
    """Returns the metrics that need a third or a fifth neighbour, if there are so many."""
    found = {}
    if min(len(ours), len(theirs)) > 3:
        found["precision"], found["recall"] = coverage.precision_recall(ours, theirs, mesh=where)
    if len(theirs) > 5:
        found["density"], found["coverage"] = coverage.density_coverage(ours, theirs, mesh=where)
    return found


def _memorisation(x: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
    where = devices(len(x) * (len(train) + len(held_out)))
    found = copies.memorisation(x, train, held_out, mesh=where)
    return {"memorisation": found.excess, "memorisation_z": found.z}


def devices(pairs: int) -> jax.sharding.Mesh | None:
    """Mesh of this process's devices if there are at least MANY pairs of images to compare, else None."""
    return sharding.mesh(devices=jax.local_devices()) if pairs >= MANY else None


FEW = 100
"""Least number of examples for `kid`: it is unbiased, but its variance is too large for fewer."""

MANY = 10**8
"""Number of pairs from which devices are worth their start: 10,000 samples and 10,000 images, say."""


def round_to(x: np.ndarray, parts: int) -> np.ndarray:
    """Pixels clipped to 0..1 and rounded to the grey values 0, 1/parts, ..., 1."""
    return np.round(np.clip(x, 0, 1) * parts) / parts


def fingerprint(x: AnyArray) -> str:
    """SHA-256 of an array's dtype, shape and values, as 64 hexadecimal digits.

    The values are read in row order as little-endian numbers, so the memory layout does not matter.
    """
    x = np.asarray(x)
    x = x.astype(x.dtype.newbyteorder("<"), copy=False)
    digest = hashlib.sha256(f"{x.dtype.str} {x.shape}".encode())
    digest.update(np.ascontiguousarray(x).view(np.uint8).reshape(-1) if x.size else b"")
    return digest.hexdigest()

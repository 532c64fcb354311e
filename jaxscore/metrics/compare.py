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
    """Distances between samples and images, by features and by pixels; by classes if there are any.

    Of fewer than FEW samples or images there is no kid. `split` is what was trained on and what was held out,
    at random, rounded as the samples are: with it there are memorisation, the share of samples nearer to
    the training images beyond what these' number explains (about 0; 1 for copies), and memorisation_z, that
    in standard deviations.
    """
    ours, theirs = features(x), features(images)
    where = devices(len(x) * len(images))
    precision, recall = coverage.precision_recall(ours, theirs, mesh=where)
    density, covered = coverage.density_coverage(ours, theirs, mesh=where)
    flat = lambda a: a.reshape(len(a), -1)
    return {
        "frechet": distances.frechet(ours, theirs),
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": covered,
        **({} if min(len(x), len(images)) < FEW else {"kid": kernels.kid(ours, theirs)}),
        **({} if predict is None else {"class_kl": distances.class_kl(predict(x), labels)}),
        "nearest_neighbour_ratio": copies.nearest_neighbour_ratio(flat(x), flat(images), mesh=where),
        "sliced_wasserstein": distances.sliced_wasserstein(flat(x), flat(images)),
        **({} if split is None else _memorisation(flat(x), *map(flat, split))),
    }


def _memorisation(x: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
    where = devices(len(x) * (len(train) + len(held_out)))
    found = copies.memorisation(x, train, held_out, mesh=where)
    return {"memorisation": found.excess, "memorisation_z": found.z}


def devices(pairs: int) -> jax.sharding.Mesh | None:
    """Those of this process, if there are so many pairs of images to compare that it is worth it."""
    return sharding.mesh(devices=jax.local_devices()) if pairs >= MANY else None


FEW = 100
"""Of fewer examples a kernel distance is mostly noise: without bias, but far from its expectation."""

MANY = 10**8
"""Pairs, as of 10,000 samples and 10,000 images."""


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

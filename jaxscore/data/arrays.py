"""Data sets that are arrays: digits, draws from a mixture, and a file of one's own.

>>> data = digits()
>>> data.examples.shape, float(data.examples.max())
((1797, 8, 8, 1), 1.0)
"""

import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from jaxscore import mixtures
from jaxscore.data.images import DataError, Examples, unit


class Dataset(NamedTuple):
    """Examples as float32 (images in 0..1), and a class label for each, 0 where there are no classes."""

    examples: Examples
    labels: Int[np.ndarray, "n"]


def digits() -> Dataset:
    """The 1,797 handwritten digits of scikit-learn's load_digits: [8, 8, 1], in 0..1, 17 grey values.

    From the UCI data set "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998).
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return Dataset((bunch.images[..., None] / 16).astype(np.float32), bunch.target.astype(np.int32))


def toy(mixture: mixtures.Mixture, n: int, *, seed: int) -> Dataset:
    """n draws from a Gaussian mixture, labelled by the component that most likely made each."""
    key = jax.random.key(seed)
    x = mixtures.draw(key, mixture, n)
    owner = mixtures.responsibilities(mixture, x, jax.numpy.zeros(n)).argmax(axis=1)
    return Dataset(np.asarray(x), np.asarray(owner, np.int32))


def from_npz(path: str | Path) -> Dataset:
    """Images from an .npz file: `images` [n, h, w] or [n, h, w, c], 8-bit or floats in 0..1; `labels` [n].

    Without labels all are 0. Nothing in the file is executed (allow_pickle=False). Raises DataError
    if there is no such file or it does not hold such arrays.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no data at {path}: save it there with numpy.savez(path, images=..., labels=...)")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images = arrays["images"]
            labels = arrays["labels"] if "labels" in arrays else np.zeros(images.shape[:1])
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as an .npz file with an array `images`: {error}") from error
    if images.dtype.kind not in "uif" or images.ndim not in (3, 4) or images.size == 0:
        raise DataError(f"{path}: images are {images.dtype}{list(images.shape)}, not numbers [n, h, w(, c)]")
    if labels.dtype.kind not in "uif" or labels.shape != images.shape[:1]:
        raise DataError(f"{path}: labels are {labels.dtype}{list(labels.shape)}, not a number per image")
    images = unit(images) if images.dtype == np.uint8 else images
    if not (images.min() >= 0 and images.max() <= 1):  # as a NaN is not either
        raise DataError(f"{path}: images run from {images.min()} to {images.max()}, not in 0..1")
    images = images[..., None] if images.ndim == 3 else images
    return Dataset(images.astype(np.float32), labels.astype(np.int32))

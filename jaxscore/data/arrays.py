"""Data sets that are arrays: digits, draws from a mixture, and a file of one's own.

>>> data = digits()
>>> data.examples.shape, float(data.examples.max())
((1797, 8, 8, 1), 1.0)
"""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from jaxscore import mixtures
from jaxscore.data import images
from jaxscore.data.formats import numpy_files
from jaxscore.data.images import DataError, Examples, Images


class Dataset(NamedTuple):
    """Examples, in 0..1 if they are images, and a class label for each, 0 where there are no classes."""

    examples: Examples
    labels: Int[np.ndarray, "n"]


def digits() -> Dataset:
    """The 1,797 handwritten digits of scikit-learn's load_digits: [8, 8, 1], in 0..1, 17 grey values.

    From the UCI data set "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998).
    Raises DataError if scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        missing = "the digits are scikit-learn's, which is not installed: pip install 'jaxscore[data]'"
        raise DataError(missing) from None

    bunch = load_digits()
    return Dataset((bunch.images[..., None] / 16).astype(np.float32), bunch.target.astype(np.int32))


def stacked_digits(n: int, *, seed: int) -> Dataset:
    """n images [8, 8, 3] whose channels are three digits drawn with replacement, labelled 0 to 999.

    The first channel's digit is the label's hundreds. A test of mode coverage: 1,000 modes, all about as
    likely (Metz et al. 2017, section 3.3.1, there of MNIST). The same n, seed: the same images.
    """
    single = digits()
    chosen = np.random.default_rng(seed).integers(len(single.labels), size=(n, 3))
    images = np.moveaxis(single.examples[..., 0][chosen], 1, -1)
    return Dataset(images, (single.labels[chosen] @ np.array([100, 10, 1])).astype(np.int32))


def toy(mixture: mixtures.Mixture, n: int, *, seed: int) -> Dataset:
    """n draws from a Gaussian mixture, labelled by the component that most likely made each."""
    key = jax.random.key(seed)
    x = mixtures.draw(key, mixture, n)
    owner = mixtures.responsibilities(mixture, x, jax.numpy.zeros(n)).argmax(axis=1)
    return Dataset(np.asarray(x), np.asarray(owner, np.int32))


def from_npz(path: str | Path) -> Dataset:
    """Images from an .npz file: `images` [n, h, w] or [n, h, w, c], 8-bit or floats in 0..1; `labels` [n].

    Or from an .npy file, which is an array of images alone. Without labels all are 0. What is too large
    to be held in memory is mapped, so that it is read as it is used, if it is not compressed. Nothing in
    the file is executed (allow_pickle=False). Raises DataError if there is no such file, if it is damaged,
    or if it does not hold such arrays.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(f"no data at {path}: save it there with numpy.savez(path, images=..., labels=...)")
    found = numpy_files.load(path, mapped_from=images.RESIDENT_BYTES // 4 + 1)
    if "images" not in found:
        raise DataError(f"{path} cannot be used: it has no array `images`")
    pixels = found["images"]
    if pixels.dtype.kind not in "uif" or pixels.ndim not in (3, 4) or pixels.size == 0:
        raise DataError(f"{path}: images are {pixels.dtype}{list(pixels.shape)}, not numbers [n, h, w(, c)]")
    labels = found.get("labels", np.zeros(len(pixels)))
    if labels.dtype.kind not in "uif" or labels.shape != pixels.shape[:1]:
        raise DataError(f"{path}: labels are {labels.dtype}{list(labels.shape)}, not a number per image")
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    return Dataset(_examples(path, pixels), labels.astype(np.int32))


def _examples(path: Path, pixels: np.ndarray) -> Examples:
    """Bytes as they are, floats as float32; read already, or mapped, if they are too many to be held."""
    of_bytes = pixels.dtype == np.uint8
    if not of_bytes:
        ranges = [(part.min(), part.max()) for part in numpy_files.chunks(pixels)]
        lowest, highest = np.min([low for low, _ in ranges]), np.max([high for _, high in ranges])
        if not (lowest >= 0 and highest <= 1):  # as a NaN is not either
            raise DataError(f"{path}: images run from {lowest} to {highest}, not in 0..1")
    shape = tuple(map(int, pixels.shape))
    mapped = Images(lambda numbers: pixels[numbers].astype(np.uint8 if of_bytes else np.float32), shape)
    if not images.fits(mapped):
        return mapped
    return images.held(pixels) if of_bytes else pixels.astype(np.float32)

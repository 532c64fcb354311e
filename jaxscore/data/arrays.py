"""Data sets in arrays: digits, draws from a mixture, and your own file.

>>> data = digits()
>>> data.examples.shape, float(data.examples.max())
((1797, 8, 8, 1), 1.0)
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from jaxscore import keys, mixtures
from jaxscore.data import images
from jaxscore.data.formats import numpy_files
from jaxscore.data.images import DataError, Examples, Images
from jaxscore.keys import Stream


class Dataset(NamedTuple):
    """Examples, a class label for each example, and further arrays with a row for each example."""

    examples: Examples
    """[n, *event]; images are bytes, or floats in 0..1."""
    labels: Int[np.ndarray, "n"]
    """Class numbers; all are 0 if there are no classes."""
    conditions: Mapping[str, np.ndarray] = MappingProxyType({})
    """Further arrays [n, ...], by name."""

    @property
    def event(self) -> tuple[int, ...]:
        """Shape of an example."""
        return self.examples.shape[1:]

    @property
    def columns(self) -> dict[str, Examples | np.ndarray]:
        """All arrays by their names in a batch: x, label, and the names of the conditions."""
        return {"x": self.examples, "label": self.labels, **self.conditions}


def digits() -> Dataset:
    """Returns the 1,797 handwritten digits of scikit-learn's load_digits: [8, 8, 1], in 0..1, 17 grey values.

    Raises DataError if scikit-learn is not installed. Source: the UCI data set "Optical Recognition of
    Handwritten Digits" (Alpaydin & Kaynak 1998).
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        missing = "the digits are scikit-learn's, which is not installed: pip install 'jaxscore[data]'"
        raise DataError(missing) from None

    bunch = load_digits()
    return Dataset((bunch.images[..., None] / 16).astype(np.float32), bunch.target.astype(np.int32))


def random_images(shape: tuple[int, int, int], n: int = 1024) -> Dataset:
    """Returns n images [h, w, c] of random bytes, the same in each call; for planning runs without data."""
    pixels = np.random.default_rng(0).integers(0, 256, (n, *shape), np.uint8)
    return Dataset(images.held(pixels), np.zeros(n, np.int32))


def stacked_digits(n: int, *, seed: int) -> Dataset:
    """Returns n images [8, 8, 3] whose channels are three digits drawn with replacement, labelled 0 to 999.

    The digit in the first channel is the hundreds of the label. The set tests mode coverage: it has 1,000
    modes with about equal probabilities (Metz et al. 2017, section 3.3.1, with MNIST). The images depend
    on n and seed.
    """
    single = digits()
    chosen = np.random.default_rng(seed).integers(len(single.labels), size=(n, 3))
    images = np.moveaxis(single.examples[..., 0][chosen], 1, -1)
    return Dataset(images, (single.labels[chosen] @ np.array([100, 10, 1])).astype(np.int32))


def toy(mixture: mixtures.Mixture, n: int, *, seed: int) -> Dataset:
    """Returns n draws from a Gaussian mixture, each with the label of its most likely component."""
    x = mixtures.draw(keys.stream(seed, Stream.DATA), mixture, n)
    owner = mixtures.responsibilities(mixture, x, jax.numpy.zeros(n)).argmax(axis=1)
    return Dataset(np.asarray(x), np.asarray(owner, np.int32))


def from_npz(path: str | Path, *, conditions: tuple[str, ...] = ()) -> Dataset:
    """Returns the data set of an .npz file: `images` [n, h, w(, c)], 8-bit or in 0..1, and `labels` [n].

    If the file has no `labels`, all labels are 0. An .npy file has an array of images only. Uncompressed
    images of more than 1 GiB as float32 are memory-mapped, and read when they are used. Nothing in the file
    is executed (allow_pickle=False).

    Args:
        path: path of the file.
        conditions: names of further arrays of numbers, [n, ...].

    Raises:
        DataError: if there is no such file, if it is damaged, if it lacks an array, or if an array has a
            wrong type, shape or value.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(f"no data at {path}: save it there with numpy.savez(path, images=..., labels=...)")
    names = ("images", "labels", *conditions)
    found = numpy_files.load(path, names, mapped_from=images.RESIDENT_BYTES // 4 + 1)
    if "images" not in found:
        raise DataError(f"{path} cannot be used: it has no array `images`")
    pixels = found["images"]
    if pixels.dtype.kind not in "uif" or pixels.ndim not in (3, 4) or pixels.size == 0:
        raise DataError(f"{path}: images are {pixels.dtype}{list(pixels.shape)}, not numbers [n, h, w(, c)]")
    labels = found.get("labels", np.zeros(len(pixels)))
    if labels.dtype.kind not in "uif" or labels.shape != pixels.shape[:1]:
        raise DataError(f"{path}: labels are {labels.dtype}{list(labels.shape)}, not a number per image")
    with np.errstate(invalid="ignore"):  # not a number
        fine = (labels == labels.astype(np.int32)) & (labels >= 0)
    if not fine.all():
        wrong = labels[~fine][0]
        raise DataError(f"{path}: label {wrong:g} is no number of a class; classes are numbered from 0 on")
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    further = {name: _condition(path, found, name, len(pixels)) for name in conditions}
    return Dataset(_examples(path, pixels), labels.astype(np.int32), further)


def _condition(path: Path, found: Mapping[str, np.ndarray], name: str, n: int) -> np.ndarray:
    """Returns the array `name`, int32 or float32. Raises DataError unless it has n rows of finite numbers."""
    if name in ("x", "label", "images", "labels"):
        raise DataError(f"--conditions {name}: a batch has another array of this name; rename it in {path}")
    if name not in found:
        raise DataError(f"{path} cannot be used: it has no array `{name}`, which --conditions names")
    array = found[name]
    if array.dtype.kind not in "uif" or array.ndim < 1 or len(array) != n:
        raise DataError(f"{path}: {name} is {array.dtype}{list(array.shape)}, not numbers [{n}, ...]")
    array = array.astype(np.float32 if array.dtype.kind == "f" else np.int32)
    if not np.isfinite(array).all():
        raise DataError(f"{path}: {name} has numbers that are not finite")
    return array


def _examples(path: Path, pixels: np.ndarray) -> Examples:
    """Returns bytes as bytes and floats as float32: in memory if they fit, otherwise memory-mapped."""
    of_bytes = pixels.dtype == np.uint8
    if not of_bytes:
        ranges = [(part.min(), part.max()) for part in numpy_files.chunks(pixels)]
        lowest, highest = np.min([low for low, _ in ranges]), np.max([high for _, high in ranges])
        if not (lowest >= 0 and highest <= 1):  # also true for NaN, unlike lowest < 0 or highest > 1
            raise DataError(f"{path}: images run from {lowest} to {highest}, not in 0..1")
    shape = tuple(map(int, pixels.shape))
    mapped = Images(lambda numbers: pixels[numbers].astype(np.uint8 if of_bytes else np.float32), shape)
    if not images.fits(mapped):
        return mapped
    return images.held(pixels) if of_bytes else pixels.astype(np.float32)

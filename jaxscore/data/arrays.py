"""Data sets in arrays: digits, draws from a mixture, and your own file.

>>> data = digits()
>>> data.examples.shape, float(data.examples.max())
((1797, 8, 8, 1), 1.0)
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from jaxscore import keys, mixtures
from jaxscore.data import checks, images
from jaxscore.data.formats import numpy_files
from jaxscore.data.images import DataError, Examples, Images
from jaxscore.keys import Stream


class Dataset(NamedTuple):
    """Examples, a class label for each example, and further arrays with a row for each example."""

    examples: Examples
    """[n, *event]; images are bytes, or floats in 0..1."""
    labels: Int[np.ndarray, "n"]
    """Class numbers; all are 0 if there are no classes. Numbers may be left out, such as 1 in 0, 2."""
    conditions: Mapping[str, np.ndarray] = MappingProxyType({})
    """Further arrays [n, ...], by name."""

    @property
    def event(self) -> tuple[int, ...]:
        """Shape of an example."""
        return self.examples.shape[1:]

    @property
    def classes(self) -> int:
        """Number of classes, the largest class number + 1; 1 if there are no classes."""
        return int(self.labels.max(initial=0)) + 1

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


IMAGES = ("images", "image", "x_train", "x", "data", "arr_0")
LABELS = ("labels", "label", "y_train", "y", "arr_1")
"""Names of the arrays in an .npz file. The first name comes first; of the others, one may be present."""


def from_npz(path: str | Path, *, conditions: tuple[str, ...] = (), latents: bool = False) -> Dataset:
    """Returns the data set of an .npz file: `images` [n, h, w(, c)], 8-bit or in 0..1, and `labels` [n].

    Without `images` or `labels`, the only array with another name in IMAGES or LABELS is used. If the file
    has no labels, all labels are 0. An .npy file has an array of images only. Complex images become 2 c
    channels: the real and the imaginary part of channel 0, of channel 1, and so on; a warning says so.

    Uncompressed images of more than 1 GiB as float32 are memory-mapped, and read when they are used. Nothing
    in the file is executed (allow_pickle=False).

    Args:
        path: path of the file.
        conditions: names of further arrays of numbers, [n, ...].
        latents: whether the images are latents of an autoencoder: any finite numbers, and no bytes.

    Raises:
        DataError: if there is no such file, if it is damaged, if it lacks an array, or if an array has a
            wrong type, shape or value.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(f"no data at {path}: save it there with numpy.savez(path, images=..., labels=...)")
    listing = numpy_files.listing(path)
    images_name = _name(path, listing, IMAGES) or IMAGES[0]
    names = tuple(dict.fromkeys((images_name, *LABELS, *conditions)))
    found = numpy_files.load(path, names, mapped_from=images.RESIDENT_BYTES // 4 + 1)
    if images_name not in found:
        raise DataError(
            f"{path} cannot be used: it has no array `images`{_listed(listing)}; name it images, x or arr_0"
        )
    pixels = _layout(path, found[images_name])
    further = {name: _condition(path, found, name, len(pixels)) for name in conditions}
    return Dataset(
        _examples(path, pixels, latents), _labels(path, listing, found, conditions, len(pixels)), further
    )


def _listed(listing: Mapping[str, str]) -> str:
    """Returns what the file holds, as the end of a message."""
    shown = ", ".join(f"{name} {kind}" for name, kind in list(listing.items())[:12])
    return f"; it holds {shown}" if shown else ""


def _name(path: Path, listing: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    """Returns the first of the names if the file has it, else the only other one, or None if it has none.

    Raises DataError if there are several others.
    """
    found = [name for name in names if name in listing]
    if len(found) > 1 and found[0] != names[0]:
        raise DataError(
            f"{path}: which of {', '.join(found)} are the {names[0]}? Name that array {names[0]}"
            f"{_listed(listing)}"
        )
    return found[0] if found else None


def _labels(
    path: Path,
    listing: Mapping[str, str],
    found: Mapping[str, np.ndarray],
    conditions: tuple[str, ...],
    n: int,
) -> Int[np.ndarray, "n"]:
    """Returns the class numbers. Arrays of real numbers are labels only if their name is `labels`."""
    fit = lambda name: name == LABELS[0] or checks.looks_like_labels(found[name])
    there = {name: listing[name] for name in LABELS if name in found and name not in conditions and fit(name)}
    name = _name(path, there, LABELS)
    return np.zeros(n, np.int32) if name is None else checks.class_numbers(path, found[name], n)


def _layout(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Returns the images as [n, h, w, c]; complex images have two channels for each of theirs."""
    checks.require_layout(path, pixels)
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    if pixels.dtype.kind != "c":
        return pixels
    c = pixels.shape[-1]
    warnings.warn(
        f"{path}: {c} complex channels are read as {2 * c}, the real and imaginary parts", stacklevel=4
    )
    contiguous = pixels if pixels.flags.c_contiguous else np.ascontiguousarray(pixels)
    return contiguous.view(pixels.real.dtype)


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


def _examples(path: Path, pixels: np.ndarray, latents: bool) -> Examples:
    """Returns bytes as bytes and floats as float32: in memory if they fit, otherwise memory-mapped."""
    of_bytes = pixels.dtype == np.uint8
    require = checks.require_bytes if of_bytes else checks.require_unit
    require = checks.require_latents if latents else require
    require(path, numpy_files.chunks(pixels))
    shape = tuple(map(int, pixels.shape))
    read = lambda numbers: pixels[numbers].astype(np.uint8 if of_bytes else np.float32)
    mapped = Images(read, shape, files=[path])
    if not images.fits(mapped):
        return mapped
    return images.held(pixels) if of_bytes else pixels.astype(np.float32)

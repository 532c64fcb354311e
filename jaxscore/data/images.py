"""Images that are indexed like an array: held in memory as bytes, or read when they are needed.

>>> x = held(np.arange(300, dtype=np.uint8).reshape(300, 1, 1, 1))
>>> len(x), x[[0, 255]].max(axis=(1, 2, 3)).tolist()
(300, [0.0, 1.0])
>>> x.take(np.array([7, 8])).ravel()
array([7, 8], dtype=uint8)
"""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int, Num, UInt8

from jaxscore.data.pixels import unit

RESIDENT_BYTES = 2**30
"""Largest size as float32 of a data set that is held in memory; larger ones are read when needed."""

Result = TypeVar("Result")


class DataError(Exception):
    """A data set is absent, or it is not as expected; the text says how to get it."""


class Images:
    """n images, fetched when they are needed; `len(x)`, `x.shape` and `x[numbers]` work as for an array.

    `x[numbers]` is float32 in 0..1. The numbers may be an index, a slice or an array, and may be negative.

    Args:
        take: take(numbers[k]) -> [k, h, w, c], bytes 0..255 or floats in 0..1. It raises a DataError that
            names the file if an image cannot be read.
        shape: (n, h, w, c).
        in_memory: whether `take` needs no reading, so that threads which read ahead are not worth it.
        files: paths of the files that `take` reads; `fingerprint` compares their names and sizes.
    """

    dtype = np.dtype(np.float32)
    """Number format of `x[numbers]`."""

    def __init__(
        self,
        take: Callable[[np.ndarray], np.ndarray],
        shape: tuple[int, int, int, int],
        *,
        in_memory: bool = False,
        files: Sequence[str | Path] = (),
    ):
        self.take, self.shape, self.in_memory, self.files = take, shape, in_memory, files
        self._numbers = np.arange(shape[0])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, numbers) -> Float[np.ndarray, "*k h w c"]:
        if isinstance(numbers, tuple):
            raise IndexError("images are indexed by their number alone; x[numbers] is an array to cut")
        wanted = self._numbers[numbers]  # raises IndexError beyond the end, as an array does
        images = unit(self.take(wanted.ravel())).astype(np.float32, copy=False)
        return images.reshape(*wanted.shape, *self.shape[1:])

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if copy is False:
            raise ValueError("images are kept as bytes, or on disk; as an array they are a copy")
        return self[:].astype(dtype or np.float32, copy=False)


Examples = Float[np.ndarray, "n *event"] | Images
"""float32 [n, *event] in memory, or Images; `x[numbers]`, `x.shape` and `len(x)` work for both."""


def held(images: UInt8[np.ndarray, "n h w c"]) -> Images:
    """Returns the Images of an array of bytes; the bytes are not copied or converted."""
    return Images(images.__getitem__, images.shape, in_memory=True)


def one_by_one(
    read: Callable[[int], np.ndarray], event: tuple[int, ...]
) -> Callable[[np.ndarray], UInt8[np.ndarray, "k h w c"]]:
    """Returns a `take` for Images from a function that reads one image: read(number) -> uint8 [h, w, c]."""

    def take(numbers):
        images = np.empty((len(numbers), *event), np.uint8)
        for row, number in enumerate(numbers):
            images[row] = read(int(number))
        return images

    return take


def evenly(n: int, most: int) -> Int[np.ndarray, "k"]:
    """Returns at most `most` numbers in 0..n-1, from 0 on, at even distances; all numbers if they are few."""
    return np.arange(n) if n <= most else np.arange(most) * n // most


def fits(examples: Examples) -> bool:
    """Whether `examples[:]`, an array of float32, exists already or is no larger than RESIDENT_BYTES."""
    return isinstance(examples, np.ndarray) or 4 * math.prod(examples.shape) <= RESIDENT_BYTES


def resident(images: Images) -> Images:
    """Returns Images in memory, all read now, if they are few enough (`fits`); otherwise the same Images."""
    if fits(images):
        return held(images.take(np.arange(len(images))))
    return images


def require_shape(image: Num[np.ndarray, "h w c"], shape: tuple[int, ...], where: object) -> None:
    """Raises DataError unless the image has the shape, or the shape is (); `where` names the file."""
    if shape and image.shape != shape:
        raise DataError(
            f"{where} is {list(image.shape)}, not {list(shape)} as the first; choose a size (--size 32)"
        )


def require_memory(where: Path | str, needed: int, remedy: str) -> None:
    """Raises DataError if `needed` bytes are more than half of the machine's memory."""
    owned = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > owned / 2:
        raise DataError(
            f"{where} would be read into memory, which takes {needed / 2**30:.0f} GiB of "
            f"{owned / 2**30:.0f}; {remedy}"
        )


def guarded(where: Path | str, function: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
    """Returns function(...); any exception becomes a DataError of one line that names the file.

    Decoders and readers raise many types: OSError, ValueError, RuntimeError, and the types of protobuf.
    """
    try:
        return function(*arguments, **options)
    except DataError as error:
        named = str(error).startswith(str(where))
        raise DataError(str(error) if named else f"{where}: {error}") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{where} cannot be read: {reason or type(error).__name__}") from error

"""Checks of what a file holds before it is used: the range and layout of images, and class numbers.

Each error is one line with the file, what was found in it, and the remedy.

>>> class_numbers("a.npz", np.array([0.0, 2.0]), 2)
array([0, 2], dtype=int32)
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Int, Num

from jaxscore.data.images import DataError

MOST_CLASSES = 2**20
"""Class numbers must be smaller: a network has a row of parameters for each number up to the largest."""

LARGEST = 1e15
"""Largest magnitude of latents."""

NUMBER_THEM = "number the classes with numpy.unique(labels, return_inverse=True)[1]"


def require_bytes(where: Path | str, parts: Iterable[np.ndarray]) -> None:
    """Raises DataError if no byte of the parts exceeds 1; reads only until the first part that has one."""
    highest = 0
    for part in parts:
        highest = max(highest, int(part.max(initial=0)))
        if highest > 1:
            return
    raise DataError(
        f"{where}: images are bytes from 0 to {highest}, which is black on the scale 0..255; "
        "multiply them by 255, or save them as floats in 0..1"
    )


def require_unit(where: Path | str, parts: Iterable[Num[np.ndarray, "..."]]) -> None:
    """Raises DataError, with the range that was found and the remedy, unless all numbers are in 0..1."""
    ranges = [(part.min(), part.max()) for part in parts]
    lowest, highest = np.min([low for low, _ in ranges]), np.max([high for _, high in ranges])
    if lowest >= 0 and highest <= 1:  # false for NaN
        return
    if not np.isfinite([lowest, highest]).all():
        remedy = "remove what is not finite"
    elif lowest >= -0.01 and highest <= 1.01:
        remedy = "save numpy.clip(images, 0, 1)"
    elif lowest >= -1 and highest <= 1:
        remedy = "save (images + 1) / 2; if they are complex, (images + 1 + 1j) / 2"
    elif lowest >= 0 and highest <= 255:
        remedy = "divide them by 255, or save them as numpy.uint8"
    else:
        remedy = "divide them by 65535" if 0 <= lowest <= highest <= 65535 else "scale them to 0..1"
    raise DataError(f"{where}: images run from {lowest:.9g} to {highest:.9g}, not in 0..1; {remedy}")


def require_latents(where: Path | str, parts: Iterable[np.ndarray]) -> None:
    """Raises DataError unless all numbers of the parts are finite floats, which differ and are not huge."""
    ranges = []
    for part in parts:
        if part.dtype.kind != "f":
            raise DataError(f"{where}: latents are {part.dtype}, not floats; load images as npz:{where}")
        if not np.isfinite(part).all():
            raise DataError(f"{where}: latents are not all finite; remove those that are not")
        ranges.append((part.min(), part.max()))
    lowest, highest = float(np.min(ranges)), float(np.max(ranges))
    if lowest == highest:
        raise DataError(f"{where}: all numbers are {lowest:.9g}, so there is nothing to learn")
    if max(-lowest, highest) > LARGEST:
        found = f"{where}: latents run from {lowest:.3g} to {highest:.3g}"
        raise DataError(f"{found}, whose squares float32 does not hold; scale them to at most {LARGEST:g}")


def require_layout(where: Path | str, images: np.ndarray) -> None:
    """Raises DataError unless the images are numbers [n, h, w] or [n, h, w, c], channels last."""
    found = f"{where}: images are {images.dtype}{list(images.shape)}"
    if images.size == 0:
        raise DataError(f"{found}: there are no images")
    if images.dtype.kind not in "uifc" or images.ndim not in (3, 4):
        raise DataError(f"{found}, not numbers [n, h, w(, c)]; save bytes, or floats in 0..1, of this shape")
    if images.ndim == 4 and images.shape[1] <= 4 < min(images.shape[2:]):
        raise DataError(f"{found}, which has the channels first; save numpy.transpose(images, (0, 2, 3, 1))")


def class_numbers(where: Path | str, labels: np.ndarray, n: int) -> Int[np.ndarray, "n"]:
    """Returns the labels of n images as int32. Numbers may be left out (0, 2, 7).

    Raises DataError unless each label is a whole number in 0..MOST_CLASSES-1.
    """
    found = f"{where}: labels are {labels.dtype}{list(labels.shape)}"
    if labels.dtype.kind in "US":
        raise DataError(f"{found}, not numbers; {NUMBER_THEM}")
    if labels.dtype.kind not in "buif" or labels.shape[:1] != (n,) or labels.ndim > 2:
        raise DataError(f"{found}, not a number per image; save whole numbers of shape [{n}]")
    if labels.ndim == 2:
        remedy = "labels[:, 0]" if labels.shape[1] == 1 else "labels.argmax(axis=1) if they are one-hot"
        raise DataError(f"{found}, not a number per image; save {remedy}")
    with np.errstate(over="ignore"):  # float16 has no MOST_CLASSES
        fine = (labels >= 0) & (labels < MOST_CLASSES) & _whole(labels)
    if not fine.all():
        wrong = labels[~fine][0]
        shown = f"{wrong:.15g}" if labels.dtype.kind == "f" else wrong
        raise DataError(
            f"{where}: label {shown} is no number of a class; classes are numbered from 0 on, "
            f"below {MOST_CLASSES}; {NUMBER_THEM}"
        )
    return labels.astype(np.int32)


def _whole(numbers: np.ndarray) -> np.ndarray:
    """Whether each number is whole; infinity and NaN are not."""
    return np.isfinite(numbers) & (numbers == np.trunc(numbers))


def looks_like_labels(array: np.ndarray) -> bool:
    """Whether an array under another name than `labels` is taken for labels: whole numbers or text."""
    return array.dtype.kind in "biuUS" or (array.dtype.kind == "f" and bool(_whole(array).all()))

"""Fingerprints of data sets: short text that tells two data sets apart, in less than a second.

>>> from jaxscore.data.arrays import random_images
>>> first, second = random_images((8, 8, 1), 3), random_images((8, 8, 1), 4)
>>> fingerprint(first) == fingerprint(first), fingerprint(first) == fingerprint(second)
(True, False)
"""

import hashlib
import os
from typing import Any

import numpy as np

from jaxscore.data.arrays import Dataset
from jaxscore.data.images import Images, evenly, guarded

BLOCK = 2**24
"""Bytes that are hashed at a time; also about the bytes of a sample of images that are not in memory."""


def fingerprint(dataset: Dataset) -> str:
    """Returns 16 hexadecimal digits that differ if examples, labels or conditions differ.

    Arrays and Images in memory are hashed whole: type, shape and bytes (BLAKE2b). Images that are read when
    they are needed are represented by their shape, the names and sizes of their files (if these are known),
    and a sample of 8 to 256 images at even distances. A change of other images that leaves names and
    sizes alone is not noticed. The folder that the files are in does not matter.

    Raises DataError if an image of the sample or a file cannot be read.
    """
    found = hashlib.blake2b(digest_size=8)
    for name, column in sorted(dataset.columns.items()):
        found.update(f"{name} {list(column.shape)}".encode())
        if isinstance(column, Images):
            _images(found, column)
        else:
            _array(found, column)
    return found.hexdigest()


def _images(found: Any, images: Images) -> None:
    n, size = len(images), int(np.prod(images.shape[1:]))
    rows = max(1, BLOCK // max(1, size))
    if images.in_memory:
        for start in range(0, n, rows):
            _array(found, images.take(np.arange(start, min(start + rows, n))))
        return
    if images.files:
        paths = [os.fspath(path) for path in images.files]
        folder = os.path.commonpath({os.path.dirname(path) for path in paths})
        sizes = guarded(folder, lambda: [os.stat(path).st_size for path in paths])
        names = "\0".join(path[len(folder) :] for path in paths)
        found.update(f"{names}\0{sizes}".encode(errors="surrogateescape"))
    _array(found, images.take(evenly(n, min(max(rows, 8), 256))))


def _array(found: Any, array: np.ndarray) -> None:
    """Hashes an array in blocks, so that an array in another order is not copied whole."""
    found.update(array.dtype.str.encode())
    rows = max(1, BLOCK // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        found.update(np.ascontiguousarray(array[start : start + rows]).data)

"""IDX, the file format of MNIST, gzipped or not. The size of a file is checked against its header.

>>> import tempfile
>>> folder = Path(tempfile.mkdtemp())
>>> _ = (folder / "train-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
>>> read(folder / "train-labels-idx1-ubyte").tolist()
[7, 8, 9]
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jaxscore.data.arrays import Dataset
from jaxscore.data.checks import require_bytes
from jaxscore.data.formats import numpy_files
from jaxscore.data.images import DataError, held

PREFIXES = {"train": ("train",), "test": ("t10k",), "all": ("train", "t10k")}
"""The first part of the file names, by split."""


def load(folder: Path, split: str = "train") -> Dataset:
    """Returns images [28, 28, 1] of MNIST or Fashion-MNIST: `train` 60,000, `test` 10,000, `all` 70,000.

    The four files have their original names, such as train-images-idx3-ubyte.gz. Raises DataError if
    there is no such split, if a file is missing, truncated or of another format, or if all bytes are 0 or 1.
    """
    if split not in PREFIXES:
        raise DataError(f"{folder} has the splits train, test and all, not {split!r}")
    parts = [_part(folder, prefix) for prefix in PREFIXES[split]]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    if not images.size:
        raise DataError(f"{folder}: no images in {', '.join(PREFIXES[split])}")
    require_bytes(folder, numpy_files.chunks(images))
    return Dataset(held(images[..., None]), labels.astype(np.int32))


def has(folder: Path, split: str) -> bool:
    """Whether the folder contains the images of the split."""
    return all(find(folder, prefix, "images") for prefix in PREFIXES[split])


def find(folder: Path, prefix: str, kind: str) -> Path | None:
    """Returns the file of `images` or `labels`, gzipped or not; None if there is none."""
    rank = {"images": 3, "labels": 1}[kind]
    names = [f"{prefix}-{kind}{mark}idx{rank}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read(path: Path) -> UInt8[np.ndarray, "*shape"]:
    """Returns the bytes in an IDX file as an array. Raises DataError if the file is damaged or has no bytes.

    The file has two zero bytes, a byte for the type (8: unsigned bytes), a byte for the rank and a
    big-endian 32-bit number per axis. The values follow in row order (LeCun, Cortes & Burges 1998).
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(content) < 4 or not content.startswith(b"\0\0\x08"):
        raise DataError(f"{path} is not an IDX file of bytes")
    values = 4 + 4 * content[3]
    lengths = content[4:values]
    shape = np.frombuffer(lengths, ">u4").tolist() if len(content) >= values else []
    if len(shape) != content[3] or len(content) != values + math.prod(shape):
        raise DataError(f"{path} has {len(content)} bytes, which is not what its header says")
    return np.frombuffer(content, np.uint8, offset=values).reshape(shape)


def _part(folder: Path, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    arrays = []
    for kind, rank in (("images", 3), ("labels", 1)):
        path = find(folder, prefix, kind)
        if path is None:
            raise DataError(f"no {prefix}-{kind}-idx{rank}-ubyte.gz in {folder}, where its fellows are")
        arrays.append(read(path))
        if arrays[-1].ndim != rank:
            raise DataError(f"{path} holds an array of rank {arrays[-1].ndim}, not {rank}")
    images, labels = arrays
    if len(images) != len(labels):
        raise DataError(f"{folder}: {len(images)} {prefix}-images, but {len(labels)} labels")
    return images, labels

"""Converts any data set into a directory of tensorflow-datasets in array_record, which has random access.

    python -m experiments.prepare --data npz:photos.npz --out data
    python -m experiments.ncsn --data tfds:photos --data-dir data

Images become PNG files with 8 bits, in their original order and with their labels. TensorFlow is not needed.
The PNG files are neither filtered nor compressed, which makes reading several times faster; the record file
compresses them instead.
"""

import contextlib
import dataclasses
import io
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxscore import data, launch
from jaxscore.data.formats import pictures
from jaxscore.launch import console
from jaxscore.launch.flags import require

VERSION = "1.0.0"

SHARD_BYTES = 2**28
"""Bytes of pixels in a file."""

TOGETHER = 256
"""Images that are read and written at a time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Converts any data set into a directory of tensorflow-datasets in array_record."""

    data: str
    """Data set; an unknown name lists the known ones."""
    out: Path
    """Data folder, in which a folder with the name of the new data set is made."""
    name: str = ""
    """Name of the new data set: small letters, digits and underscores; by default made from --data."""
    data_dir: Path | None = None
    """Folder of the data set, if it is not in its usual place."""
    split: tuple[str, ...] = ()
    """Parts of the data set to convert; by default all of them."""
    size: int | None = None
    """Side of the images in pixels, for data sets of photographs."""

    def __post_init__(self):
        valid = lambda name: re.fullmatch(r"[a-z][a-z0-9_]*", name)
        if self.name:
            require(valid(self.name), "name", self.name, "must be small letters, digits and underscores")
        else:
            require(self.data.strip(), "data", repr(self.data), "is empty; name a data set")
            made = "gives no name of letters, digits and underscores; choose one with --name"
            require(valid(default_name(self.data)), "data", self.data, made)
        require(len(set(self.split)) == len(self.split), "split", " ".join(self.split), "names one twice")


def default_name(name: str) -> str:
    """Valid name made from --data: npz:folder/My-Photos.npz -> my_photos, lsun/tower -> lsun_tower."""
    kind, _, rest = name.rpartition(":")
    base = Path(rest).stem if kind in ("npz", "folder") else rest
    return re.sub(r"[^a-z0-9]+", "_", base.lower()).strip("_")


def run(config: Config) -> Path:
    """Writes the folder OUT/NAME/1.0.0 and returns its path.

    Writes the data to a temporary folder that is renamed at the end, so that OUT/NAME is always complete.
    Raises FlagError if OUT/NAME exists, and DataError if the source is absent, damaged, or has no images.
    """
    name = config.name or default_name(config.data)
    place = config.out.expanduser() / name
    flag = ("name", config.name) if config.name else ("out", config.out)
    require(not place.exists(), *flag, f"{place} exists already; nothing was written, choose another --name")
    names = config.split or data.splits(config.data, config.data_dir)
    load = lambda split: data.load(config.data, config.data_dir, split=split, size=config.size)
    sources = {split: load(split) for split in names}
    shapes = {source.examples.shape[1:] for source in sources.values()}
    if len(shapes) > 1 or len(shape := shapes.pop()) != 3 or shape[-1] not in (1, 3, 4):
        raise data.DataError(f"{config.data}: need images of one size, and of 1, 3 or 4 channels")
    with _renamed_when_done(place, *flag) as folder:
        error = write(folder / VERSION, name, sources)
    if error:
        console.say(f"pixels are rounded to multiples of 1/255, by at most {error:.2g}")
    counts = ", ".join(f"{len(source.labels)} {split}" for split, source in sources.items())
    how = f"--data tfds:{name} and TFDS_DATA_DIR={config.out} or --data-dir {config.out}"
    console.say(f"{counts} in {place}; read with {how}")
    return place / VERSION


def write(folder: Path, name: str, sources: dict[str, data.Dataset]) -> float:
    """Writes the splits into the folder of a version; returns the largest rounding error of a pixel, in 0..1.

    Raises DataError for negative labels.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        missing = "tensorflow-datasets, which is not installed: pip install 'jaxscore[data]'"
        raise data.DataError(f"{name} is written with {missing}") from None

    shape = next(iter(sources.values())).examples.shape[1:]
    labels = np.concatenate([source.labels for source in sources.values()])
    if labels.min() < 0:
        raise data.DataError(f"{name}: the label {labels.min()} is no number of a class")
    features = {
        "image": tfds.features.Image(shape=shape, encoding_format="png"),
        "label": tfds.features.ClassLabel(num_classes=max(source.classes for source in sources.values())),
    }
    folder.mkdir(parents=True)
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version(VERSION), data_dir=str(folder), module_name=""
    )
    info = tfds.core.DatasetInfo(builder=identity, features=tfds.features.FeaturesDict(features))
    per_file = max(1, SHARD_BYTES // int(np.prod(shape)))
    writer = tfds.core.SequentialWriter(info, per_file, file_format="array_record")
    writer.initialize_splits(list(sources))
    error = max(_write_split(writer, split, source) for split, source in sources.items())
    writer.close_all()
    return error


def _write_split(writer: Any, split: str, source: data.Dataset) -> float:
    error = 0.0
    starts = range(0, len(source.labels), TOGETHER)
    for start in console.in_turn(starts, f"write {split}, by {TOGETHER}"):
        rows = np.arange(start, min(start + TOGETHER, len(source.labels)))
        pixels, off = as_bytes(source.examples, rows)
        error = max(error, off)
        pairs = zip(pixels, source.labels[rows], strict=True)
        encoded = [
            {"image": io.BytesIO(pictures.encode(image)), "label": int(label)} for image, label in pairs
        ]
        writer.add_examples({split: encoded})
    return error


def as_bytes(examples: data.Examples, rows: np.ndarray) -> tuple[np.ndarray, float]:
    """The images in these rows as bytes, and the largest rounding error of a pixel, in 0..1."""
    pixels = examples.take(rows) if isinstance(examples, data.Images) else examples[rows]
    if pixels.dtype == np.uint8:
        return pixels, 0.0
    rounded = np.round(pixels * 255).astype(np.uint8)
    error = float(np.abs(pixels - data.pixels.unit(rounded)).max())
    return rounded, error if error > 1e-6 else 0.0  # float32 rounds by less than 1e-6


@contextlib.contextmanager
def _renamed_when_done(place: Path, flag: str, value: Any) -> Iterator[Path]:
    """Yields a new folder beside `place`; renames it to `place` at the end, or removes it after an error.

    Raises FlagError, with the flag and its value, if another process has made `place` in the meantime.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    temporary.mkdir()
    try:
        yield temporary
        try:
            os.rename(temporary, place)
        except OSError:
            taken = f"another process has made {place} in the meantime; it was left as it is"
            require(not place.exists(), flag, value, taken)
            raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


if __name__ == "__main__":
    launch.program(run, Config, folder="out")

"""Data sets prepared by tensorflow-datasets, read without TensorFlow.

    ~/tensorflow_datasets/mnist/3.0.1/dataset_info.json     NAME/VERSION
    ~/tensorflow_datasets/lsun/church_outdoor/3.1.0/...     NAME/CONFIG/VERSION

array_record files allow random access: an image is read when it is indexed. Most directories contain
TFRecord files, which can only be read from beginning to end: they are read into memory once. Nothing is
ever downloaded.

>>> version(Path("mnist/3.10.1")) > version(Path("mnist/3.9.0"))
True
"""

import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxscore.data.arrays import Dataset
from jaxscore.data.formats import records
from jaxscore.data.formats.pictures import CHANNELS, fit
from jaxscore.data.images import DataError, guarded

PREPARE = "python -c \"import tensorflow_datasets as tfds; tfds.data_source('{name}'{where})\""
"""Command that downloads a data set and prepares it as array_record. Most need TensorFlow for it."""


def load(
    name: str,
    folder: Path | None = None,
    *,
    split: str = "train",
    crop: int | None = None,
    size: int | None = None,
) -> Dataset:
    """Returns images and labels of a data set; the labels are 0 if it has none.

    Args:
        name: NAME or NAME/CONFIG.
        folder: where the data set was prepared, or the folder of one version. Defaults to TFDS_DATA_DIR,
            or to ~/tensorflow_datasets. The newest version is read.
        split: the name of a split, or `all`.
        crop, size: as in `pictures.fit`.

    Raises:
        DataError: the data set is missing or damaged, has no images, or tensorflow-datasets is not installed.
    """
    prepared = _required(name, folder)
    builder = _open(prepared)
    info = builder.info
    names = list(info.splits) if split == "all" else [split]
    if not set(names) <= set(info.splits):
        raise DataError(f"{prepared} has the splits {', '.join(info.splits)}, not {split!r}")
    example, cut = _example(prepared, info.features), partial(fit, crop=crop, size=size)
    if info.file_format.value == "array_record":
        return records.at_random(prepared, _sources(prepared, builder, names), example, cut)
    if info.file_format.value == "tfrecord":
        files = [Path(path) for name in names for path in info.splits[name].filepaths]
        n = sum(info.splits[name].num_examples for name in names)
        return records.in_sequence(prepared, files, n, example, cut)
    raise DataError(
        f"{prepared} holds {info.file_format.value} files; only array_record and tfrecord are read"
    )


def splits(name: str, folder: Path | None = None) -> tuple[str, ...]:
    """Returns the names of the splits of NAME or NAME/CONFIG. Raises DataError as `load` does."""
    return tuple(_open(_required(name, folder)).info.splits)


def home() -> Path:
    """Returns the folder of tensorflow-datasets: TFDS_DATA_DIR, or else ~/tensorflow_datasets."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def find(name: str, folder: Path | None = None) -> Path | None:
    """Returns the folder of the newest version of NAME or NAME/CONFIG; None if there is none."""
    folder = home() if folder is None else folder
    if (folder / "dataset_info.json").is_file():
        return folder
    return max(
        (path.parent for path in (folder / name).glob("*/dataset_info.json")), key=version, default=None
    )


def version(prepared: Path) -> list[int]:
    """Returns the numbers in the name of a version's folder, for comparison."""
    return [int(number) for number in re.findall(r"\d+", prepared.name)]


def _required(name: str, folder: Path | None) -> Path:
    """Returns the folder of the newest version. Raises DataError, with the command that makes one."""
    prepared = find(name, folder)
    if prepared is None:
        where = f", data_dir='{folder}'" if folder else ""
        command = PREPARE.format(name=name, where=where)
        raise DataError(
            f"no data set {name!r} in {folder or home()}: "
            f"prepare it there, where tensorflow is installed, with {command}"
        )
    return prepared


def _open(prepared: Path) -> Any:
    """Returns the builder of tensorflow-datasets for a prepared folder."""
    try:
        import google_crc32c  # noqa: F401  checks the records of TFRecord files
        import PIL  # noqa: F401  decodes the images
        import tensorflow_datasets
    except ImportError as error:
        missing = f"{error.name}, which is not installed: pip install 'jaxscore[data]'"
        raise DataError(f"{prepared} is read with {missing}") from None
    return guarded(prepared, tensorflow_datasets.builder_from_directory, str(prepared))


def _sources(prepared: Path, builder: Any, splits: list[str]) -> list[Any]:
    """Returns a source of records, as bytes, for each split."""
    from tensorflow_datasets import decode

    raw = decode.DeserializeMethod.RAW_BYTES
    return [guarded(prepared, builder.as_data_source, split, deserialize_method=raw) for split in splits]


def _example(prepared: Path, features: Any) -> records.Example:
    """Picks the feature `image` or the only 8-bit image, and `label` or the first class."""
    images = {name: feature for name, feature in features.items() if type(feature).__name__ == "Image"}
    found = [name for name, feature in images.items() if feature.np_dtype == np.uint8]
    if "image" not in found and len(found) != 1:
        raise DataError(
            f"{prepared}: {len(found)} images of 8 bits in an example of {', '.join(features)}; need one"
        )
    image = "image" if "image" in found else found[0]
    modes = {channels: mode for mode, channels in CHANNELS.items()}
    channels = features[image].shape[-1]
    if channels not in modes:
        raise DataError(f"{prepared}: images of {channels} channels; need 1, 3 or 4")
    classes = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    label = "label" if "label" in classes else next(iter(classes), None)
    return records.Example(image, modes[channels], label)

"""Data sets that tensorflow-datasets has prepared, read without TensorFlow.

    ~/tensorflow_datasets/mnist/3.0.1/dataset_info.json     NAME/VERSION
    ~/tensorflow_datasets/lsun/church_outdoor/3.1.0/...     NAME/CONFIG/VERSION

Directories of array_record files are read at random, an image when it is asked for. TFRecord files, which
most directories hold, can only be read from their beginning to their end: they are read once, into memory.
Nothing is ever downloaded.

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
"""What downloads a data set and prepares it as array_record. Most sets are encoded by TensorFlow then."""


def load(
    name: str,
    folder: Path | None = None,
    *,
    split: str = "train",
    crop: int | None = None,
    size: int | None = None,
) -> Dataset:
    """The images, and the labels if there are any, of the data set NAME or NAME/CONFIG.

    `folder` is where it was prepared (default: TFDS_DATA_DIR, else ~/tensorflow_datasets), or the folder
    of its version itself; of several versions the newest is taken. `split` is one of its splits, or `all` of
    them; crop and size are those of `pictures.fit`. Raises DataError if it is absent, if tensorflow-datasets
    is not installed, or if its files are damaged or hold no images.
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
    """The names of the splits of NAME or NAME/CONFIG. Raises DataError as `load` does."""
    return tuple(_open(_required(name, folder)).info.splits)


def home() -> Path:
    """Where tensorflow-datasets keeps its data: TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def find(name: str, folder: Path | None = None) -> Path | None:
    """The folder with the dataset_info.json of the newest version of NAME or NAME/CONFIG, if there is one."""
    folder = home() if folder is None else folder
    if (folder / "dataset_info.json").is_file():
        return folder
    return max(
        (path.parent for path in (folder / name).glob("*/dataset_info.json")), key=version, default=None
    )


def version(prepared: Path) -> list[int]:
    """The numbers in the name of a version's folder, to compare."""
    return [int(number) for number in re.findall(r"\d+", prepared.name)]


def _required(name: str, folder: Path | None) -> Path:
    """The folder of the newest version. Raises DataError, with what prepares it, if there is none."""
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
    """tensorflow-datasets' builder of what is there."""
    try:
        import PIL  # noqa: F401  what images are decoded with
        import tensorflow_datasets
    except ImportError as error:
        missing = f"{error.name}, which is not installed: pip install 'jaxscore[data]'"
        raise DataError(f"{prepared} is read with {missing}") from None
    return guarded(prepared, tensorflow_datasets.builder_from_directory, str(prepared))


def _sources(prepared: Path, builder: Any, splits: list[str]) -> list[Any]:
    """Each split's records by number, as bytes."""
    from tensorflow_datasets import decode

    raw = decode.DeserializeMethod.RAW_BYTES
    return [guarded(prepared, builder.as_data_source, split, deserialize_method=raw) for split in splits]


def _example(prepared: Path, features: Any) -> records.Example:
    """`image`, or the only image of bytes among the features, and `label`, or the first class."""
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

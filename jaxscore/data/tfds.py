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
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxscore.data.arrays import Dataset
from jaxscore.data.images import DataError, Images, fit, require_shape, resident

PREPARE = "python -c \"import tensorflow_datasets as tfds; tfds.data_source('{name}'{where})\""
"""What downloads and prepares a data set as array_record, without TensorFlow."""


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
    them; crop and size are those of `images.fit`. Raises DataError if it is absent, if tensorflow-datasets
    is not installed, or if its files are damaged or hold no images.
    """
    prepared = find(name, folder)
    if prepared is None:
        where = f", data_dir='{folder}'" if folder else ""
        command = PREPARE.format(name=name, where=where)
        raise DataError(f"no data set {name!r} in {folder or home()}: prepare it there with {command}")
    info, source_of = _open(prepared)
    splits = list(info.splits) if split == "all" else [split]
    if not set(splits) <= set(info.splits):
        raise DataError(f"{prepared} has the splits {', '.join(info.splits)}, not {split!r}")
    feature = _image_feature(prepared, info.features)
    if info.file_format.value == "array_record":
        sources = [_guarded(prepared, source_of, split) for split in splits]
        cut = partial(fit, crop=crop, size=size)
        event = _read(prepared, sources, feature, cut, (), 0).shape
        read = partial(_read, prepared, sources, feature, cut, event)
        images = Images(read, (sum(map(len, sources)), *event))
        return Dataset(resident(images), _labels(prepared, info, source_of, splits))
    if info.file_format.value == "tfrecord":
        return _read_through(prepared, info, splits, feature, crop, size)
    raise DataError(
        f"{prepared} holds {info.file_format.value} files; only array_record and tfrecord are read"
    )


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


def _open(prepared: Path) -> tuple[Any, Any]:
    """The builder's info, and `source_of(split=..., decoders=...)` for random access."""
    try:
        import grain  # noqa: F401  what TFRecord files are read with
        import PIL  # noqa: F401  what images are decoded with
        import tensorflow_datasets
    except ImportError as error:
        # importlib_resources: TFDS needs it to download and prepare, and does not ask for it.
        packages = "pip install tensorflow-datasets grain pillow importlib_resources"
        raise DataError(
            f"{prepared} is read with {error.name}, which is not installed: {packages}"
        ) from error
    builder = _guarded(prepared, tensorflow_datasets.builder_from_directory, str(prepared))
    return builder.info, builder.as_data_source


def _guarded(where: Path | str, function, *arguments, **options) -> Any:
    """function(...), whatever it finds wrong with the files being one DataError that names them.

    Decoders and readers raise what they please: OSError, ValueError, RuntimeError, protobuf's own.
    """
    try:
        return function(*arguments, **options)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{where} cannot be read: {reason or type(error).__name__}") from error


def _image_feature(prepared: Path, features) -> str:
    """`image`, or the name of the only image of bytes among the features."""
    images = {name: feature for name, feature in features.items() if type(feature).__name__ == "Image"}
    found = [name for name, feature in images.items() if feature.np_dtype == np.uint8]
    if "image" in found or len(found) == 1:
        return "image" if "image" in found else found[0]
    raise DataError(
        f"{prepared}: {len(found)} images of 8 bits in an example of {', '.join(features)}; need one"
    )


def _label_feature(features) -> str | None:
    classes = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    return "label" if "label" in classes else next(iter(classes), None)


# array_record ---------------------------------------------------------------------------------


def _read(prepared: Path, sources, feature: str, cut, event: tuple, number: int) -> np.ndarray:
    """Image `number` of the sources one after another."""
    index = number
    for source in sources:
        if index < len(source):
            where = f"{prepared} (image {number})"
            image = _guarded(where, lambda source=source, index=index: cut(source[index][feature]))
            require_shape(image, event, where)
            return image
        index -= len(source)
    raise IndexError(number)


def _labels(prepared: Path, info, source_of, splits) -> np.ndarray:
    """The labels, read without decoding the images; 0 if there are none."""
    label, skip = _label_feature(info.features), _skip_decoding(info.features)
    if label is None:
        return np.zeros(sum(info.splits[split].num_examples for split in splits), np.int32)
    sources = [_guarded(prepared, source_of, split, decoders=skip) for split in splits]
    examples = (source[i] for source in sources for i in range(len(source)))
    return _guarded(prepared, lambda: np.array([example[label] for example in examples], np.int32))


def _skip_decoding(features) -> dict[str, Any]:
    from tensorflow_datasets import decode

    return {
        name: decode.SkipDecoding() for name, value in features.items() if type(value).__name__ == "Image"
    }


# TFRecord -------------------------------------------------------------------------------------


def _read_through(prepared: Path, info, splits, feature: str, crop, size) -> Dataset:
    """All examples of the splits, in the order of their files."""
    n, label = sum(info.splits[split].num_examples for split in splits), _label_feature(info.features)
    images, labels = np.empty(0, np.uint8), np.zeros(n, np.int32)
    number = 0
    for path, example in _examples(info, splits):
        where = f"{path} (image {number})"
        if number == n:
            raise DataError(f"{path} holds more than the {n} examples that {prepared} speaks of")
        image = _guarded(where, fit, example[feature], crop=crop, size=size)
        if number == 0:
            _require_memory(prepared, n * image.size)
            images = np.empty((n, *image.shape), np.uint8)
        require_shape(image, images.shape[1:], where)
        images[number], labels[number] = image, example[label] if label else 0
        number += 1
    if number < n:
        raise DataError(f"{prepared}: {number} examples instead of {n}; a file is cut short or missing")
    return Dataset(resident(Images(partial(_row, images), images.shape)), labels)


def _examples(info, splits) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each example with the path of its file."""
    from grain.experimental import TFRecordIterDataset

    for split in splits:
        for path in map(Path, info.splits[split].filepaths):
            records = _guarded(path, lambda path=path: iter(TFRecordIterDataset(str(path))))
            number = 0
            while (record := _guarded(path, next, records, None)) is not None:
                yield (
                    path,
                    _guarded(f"{path} (record {number})", info.features.deserialize_example_np, record),
                )
                number += 1


def _require_memory(prepared: Path, needed: int) -> None:
    held = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > held / 2:
        raise DataError(
            f"{prepared}: TFRecord files are read into memory, which takes {needed / 2**30:.0f} GiB of "
            f"{held / 2**30:.0f}; prepare them with tfds.data_source, as array_record, in another folder"
        )


def _row(images: np.ndarray, number: int) -> np.ndarray:
    return images[number]

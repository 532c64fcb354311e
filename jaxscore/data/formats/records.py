"""Images and labels from the records of a prepared data set, in array_record or TFRecord files.

A record is a tf.train.Example: a map from a feature's name to a list of bytes or of numbers. Images are PNG
or JPEG. They are decoded here, because the decoder of tensorflow-datasets verifies no checksum.

>>> example = Example(image="image", mode="L", label=None)
>>> example.label_of(b"")
0
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from jaxscore.data.arrays import Dataset
from jaxscore.data.formats import tfrecord
from jaxscore.data.formats.pictures import decode
from jaxscore.data.images import (
    DataError,
    Images,
    guarded,
    held,
    require_memory,
    require_shape,
    resident,
)

Cut = Callable[[np.ndarray], np.ndarray]

TOGETHER = 256
"""Records that are fetched together; fetching them one at a time takes three times as long."""


class Example(NamedTuple):
    """The features of a record that are read."""

    image: str
    """Name of the image."""
    mode: str
    """Mode as which the image is read: L, RGB or RGBA."""
    label: str | None
    """Name of the class, or None without classes."""

    def image_of(self, record: bytes) -> UInt8[np.ndarray, "h w c"]:
        """Pixels of the record's image. Raises whatever the decoder raises."""
        return decode(_feature(record, self.image).bytes_list.value[0], self.mode)

    def label_of(self, record: bytes) -> int:
        """Number of the record's class; 0 without classes. Raises OverflowError if it exceeds 32 bits."""
        if self.label is None:
            return 0
        return int(np.int32(_feature(record, self.label).int64_list.value[0]))


def _feature(record: bytes, name: str) -> Any:
    from tensorflow_datasets.proto import tf_example_pb2

    features = tf_example_pb2.Example.FromString(record).features.feature
    if name not in features:
        raise ValueError(f"there is no {name!r} in a record")
    return features[name]


# array_record: an image when it is asked for -----------------------------------------------------


def at_random(prepared: Path, sources: list[Any], example: Example, cut: Cut) -> Dataset:
    """The examples of the sources one after another; each source has a length and fetches records by number.

    Labels are read at once. Images are read at once if they fit in memory (`data.images.resident`), else when
    they are asked for.

    Args:
        prepared: folder of the data set, for messages.
        sources: sources of records.
        example: features to read.
        cut: maps a decoded image to the image of the data set.

    Raises:
        DataError: for a record that cannot be read, now or when asked for, with the number of the image.
    """
    n = sum(map(len, sources))
    if n == 0:
        raise DataError(f"{prepared} holds no examples in this split")

    def read(number, record, event=()):
        where = f"{prepared} (image {number})"
        image = guarded(where, lambda: cut(example.image_of(record)))
        require_shape(image, event, where)
        return image

    event = read(0, next(_records(prepared, sources, np.arange(1)))).shape

    def take(numbers):
        images = np.empty((len(numbers), *event), np.uint8)
        for row, record in enumerate(_records(prepared, sources, numbers)):
            images[row] = read(numbers[row], record, event)
        return images

    labels = np.zeros(n, np.int32)
    labelled = np.arange(n if example.label else 0)
    for number, record in enumerate(_records(prepared, sources, labelled)):
        labels[number] = guarded(f"{prepared} (image {number})", example.label_of, record)
    return Dataset(resident(Images(take, (n, *event))), labels)


def _records(prepared: Path, sources: list[Any], numbers: np.ndarray) -> Iterator[bytes]:
    """The records with these numbers, counted through all sources."""
    starts = np.cumsum([0, *map(len, sources)])
    for first in range(0, len(numbers), TOGETHER):
        wanted = numbers[first : first + TOGETHER]
        found: list[bytes] = [b""] * len(wanted)
        for source, start, end in zip(sources, starts, starts[1:], strict=False):
            rows = np.flatnonzero((start <= wanted) & (wanted < end))
            if rows.size:
                fetched = _fetch(prepared, source, (wanted[rows] - start).tolist(), int(start))
                for row, record in zip(rows, fetched, strict=True):
                    found[row] = record
        yield from found


def _fetch(prepared: Path, source: Any, numbers: list[int], start: int) -> list[bytes]:
    try:
        return guarded(prepared, source.__getitems__, numbers)
    except DataError:
        if len(numbers) == 1:
            raise DataError(f"{prepared} (image {start + numbers[0]}) cannot be read") from None
        # Reads them one by one, so that the message names the damaged one.
        return [record for number in numbers for record in _fetch(prepared, source, [number], start)]


# TFRecord: everything, once ----------------------------------------------------------------------


def in_sequence(prepared: Path, files: list[Path], n: int, example: Example, cut: Cut) -> Dataset:
    """The n examples of the files one after another, read into memory.

    Args:
        prepared: folder of the data set, for messages.
        files: TFRecord files.
        n: number of examples in all files.
        example: features to read.
        cut: maps a decoded image to the image of the data set.

    Raises:
        DataError: for a record that cannot be read, with its number, or if there are more or fewer than n.
    """
    images, labels, number = np.empty(0, np.uint8), np.zeros(n, np.int32), 0
    for path, record in _in_files(files):
        where = f"{path} (image {number})"
        if number == n:
            raise DataError(f"{path} holds more than the {n} examples that {prepared} speaks of")
        image = guarded(where, lambda record=record: cut(example.image_of(record)))
        if number == 0:
            remedy = "prepare it with tfds.data_source, as array_record, in another folder"
            require_memory(prepared, n * image.size, remedy)
            images = np.empty((n, *image.shape), np.uint8)
        require_shape(image, images.shape[1:], where)
        images[number], labels[number] = image, guarded(where, example.label_of, record)
        number += 1
    if number < n or n == 0:
        raise DataError(f"{prepared}: {number} examples instead of {n}; a file is cut short or missing")
    return Dataset(held(images), labels)


def _in_files(files: list[Path]) -> Iterator[tuple[Path, bytes]]:
    for path in files:
        stream = tfrecord.records(path)
        while (record := guarded(path, next, stream, None)) is not None:
            yield path, record

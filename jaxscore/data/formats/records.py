"""Records of a prepared data set, array_record or TFRecord, to images and labels.

A record is a tf.train.Example: it maps the name of a feature to a list of bytes or numbers. Images are PNG
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
"""Records fetched together; one at a time takes three times as long."""


class Example(NamedTuple):
    """The features of a record that are read."""

    image: str
    """Name of the image."""
    mode: str
    """Mode that the image is read as: L, RGB or RGBA."""
    label: str | None
    """Name of the class; None if there are no classes."""

    def image_of(self, record: bytes) -> UInt8[np.ndarray, "h w c"]:
        """Returns the pixels. Raises what `pictures.decode` raises."""
        return decode(_feature(record, self.image).bytes_list.value[0], self.mode)

    def label_of(self, record: bytes) -> int:
        """Returns the class number; 0 without classes. Raises OverflowError if it exceeds 32 bits."""
        if self.label is None:
            return 0
        return int(np.int32(_feature(record, self.label).int64_list.value[0]))


def _feature(record: bytes, name: str) -> Any:
    from tensorflow_datasets.proto import tf_example_pb2

    features = tf_example_pb2.Example.FromString(record).features.feature
    if name not in features:
        raise ValueError(f"there is no {name!r} in a record")
    return features[name]


# array_record: an image is read when it is indexed ------------------------------------------------


def at_random(prepared: Path, sources: list[Any], example: Example, cut: Cut) -> Dataset:
    """Returns the examples of all sources in order. A source has a length and fetches records by number.

    Raises DataError, with the number of the image, if a record cannot be read. Indexing does so too.
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
    return Dataset(resident(Images(take, (n, *event), files=sorted(prepared.glob("*")))), labels)


def _records(prepared: Path, sources: list[Any], numbers: np.ndarray) -> Iterator[bytes]:
    """Yields the records with these numbers; the count runs through all sources."""
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
        # Fetch one at a time to find the number of the record that cannot be read.
        return [record for number in numbers for record in _fetch(prepared, source, [number], start)]


# TFRecord: all records are read once --------------------------------------------------------------


def in_sequence(prepared: Path, files: list[Path], n: int, example: Example, cut: Cut) -> Dataset:
    """Reads the n examples of the files, in order, into memory.

    Raises DataError, with the number of the image, if a record cannot be read, or if there are more or
    fewer than n.
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

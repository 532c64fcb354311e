"""Batches that are a function of (seed, step), read ahead where reading takes time.

>>> source = {"x": np.zeros((1797, 8, 8, 1), np.float32), "label": np.arange(1797) % 10}
>>> batch = next(batches(source, batch=32, seed=0, start=7))
>>> batch["x"].shape, batch["label"].shape
((32, 8, 8, 1), (32,))
"""

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

import numpy as np
from jaxtyping import Int

from jaxscore.data.arrays import Dataset
from jaxscore.data.images import Examples

AHEAD = 4
"""The number of batches that are read, each by a thread, before they are asked for."""


def batches(
    source: Dataset | Mapping[str, Examples | np.ndarray],
    *,
    batch: int,
    seed: int,
    start: int = 0,
    rows: np.ndarray | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields batches number start, start + 1, ... of an endless stream; number k depends on (seed, k) alone.

    The stream is one random permutation of all examples after another, cut into batches without a gap. So
    nothing is dropped, and every example is seen equally often. To resume, ask for the batch of the step.

    A batch has the names of the source: {"x": [batch, *event], "label": [batch], ...}. Bytes stay bytes;
    `pixels.unit` scales them, on the device.

    Args:
        source: a data set, or arrays by name with the same number of rows each.
        batch: the number of examples in a batch.
        seed: which permutations.
        start: the number of the first batch.
        rows: numbers in 0..batch-1; only these rows of every batch are read. For one of several processes.

    Images that have to be read are read ahead by Grain's threads, in order; `close()` ends the threads.

    Raises:
        ValueError: if batch < 1, if there are no examples, if arrays differ in length, or for a row in no
            batch.
        DataError: from the iterator, if an image cannot be read.
    """
    columns = source.columns if isinstance(source, Dataset) else dict(source)
    lengths = {name: len(column) for name, column in columns.items()}
    n = min(lengths.values(), default=0)
    if batch < 1 or n < 1:
        raise ValueError(f"need batch >= 1 and at least one example, not {batch} and {n}")
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the arrays have different numbers of rows: {lengths}")
    rows = np.arange(batch) if rows is None else np.asarray(rows, int)
    if rows.ndim != 1 or (rows.size and not 0 <= rows.min() <= rows.max() < batch):
        raise ValueError(f"rows must be numbers in 0..{batch - 1}, the rows of a batch, not {rows}")
    numbers = _numbers(n, batch, seed, rows)
    takes = {name: _take(column) for name, column in columns.items()}

    def read(step: int) -> dict[str, np.ndarray]:
        chosen = numbers(step)
        return {name: take(chosen) for name, take in takes.items()}

    if all(isinstance(column, np.ndarray) or column.in_memory for column in columns.values()):
        return (read(step) for step in itertools.count(start))
    return _ahead(read, start)


def _take(column: Examples | np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function that reads rows by number: bytes if the images are bytes."""
    return column.__getitem__ if isinstance(column, np.ndarray) else column.take


def _numbers(n: int, batch: int, seed: int, rows: Int[np.ndarray, "b"]) -> Callable[[int], np.ndarray]:
    """Returns step -> the numbers of the examples that are in these rows of the batch."""

    @lru_cache(maxsize=2)
    def permutation(epoch):
        return np.random.default_rng([seed, epoch]).permutation(n)

    def numbers(step):
        epochs, places = np.divmod(step * batch + rows, n)
        found = np.empty(len(rows), int)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            found[here] = permutation(int(epoch))[places[here]]
        return found

    return numbers


def _ahead(read: Callable[[int], dict[str, np.ndarray]], start: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields read(start), read(start + 1), ..., read ahead by Grain if it is installed."""
    try:
        import grain
    except ImportError:
        yield from map(read, itertools.count(start))
        return
    options = grain.ReadOptions(num_threads=AHEAD, prefetch_buffer_size=AHEAD)
    stream = iter(grain.MapDataset.range(start, sys.maxsize).map(read).to_iter_dataset(options))
    try:
        yield from stream
    finally:
        stream.close()

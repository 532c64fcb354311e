"""Batches that are a function of (seed, step), fetched ahead of time where that takes time.

>>> next(batches(np.zeros((1797, 8, 8, 1), np.float32), batch=32, seed=0, start=7)).shape
(32, 8, 8, 1)
"""

import itertools
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from jaxtyping import Int

from jaxscore.data.images import Examples

AHEAD = 4
"""Batches that are read, each by a thread of its own, before they are asked for."""


def batches(
    examples: Examples, *, batch: int, seed: int, start: int = 0, rows: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Batches number start, start + 1, ... of an endless stream; number k depends on (seed, k) alone.

    The stream is one random permutation of all examples after another, cut into batches [batch, *event]
    without a gap, so nothing is dropped and every example is seen equally often. Resuming is asking for the
    batch of the step. With `rows`, numbers in 0..batch-1, only these rows of every batch are fetched:
    what a process of several reads. Bytes stay bytes: `unit` scales them, on the device.

    Images that have to be read are read ahead by Grain's threads, in order; `close()` ends these. Raises
    ValueError if batch < 1, if there are no examples, or if a row is in no batch; DataError, from the
    iterator, if an image cannot be read.
    """
    n = len(examples)
    if batch < 1 or n < 1:
        raise ValueError(f"need batch >= 1 and at least one example, not {batch} and {n}")
    rows = np.arange(batch) if rows is None else np.asarray(rows, int)
    if rows.ndim != 1 or (rows.size and not 0 <= rows.min() <= rows.max() < batch):
        raise ValueError(f"rows must be numbers in 0..{batch - 1}, the rows of a batch, not {rows}")
    numbers = _numbers(n, batch, seed, rows)
    take = examples.__getitem__ if isinstance(examples, np.ndarray) else examples.take
    read = lambda step: take(numbers(step))
    if isinstance(examples, np.ndarray) or examples.in_memory:
        return (read(step) for step in itertools.count(start))
    return _ahead(read, start)


def _numbers(n: int, batch: int, seed: int, rows: Int[np.ndarray, "b"]) -> Callable[[int], np.ndarray]:
    """step -> the numbers of the examples that are in these rows of the step's batch."""

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


def _ahead(read: Callable[[int], np.ndarray], start: int) -> Iterator[np.ndarray]:
    """read(start), read(start + 1), ..., by Grain where it is installed, else one when it is asked for."""
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

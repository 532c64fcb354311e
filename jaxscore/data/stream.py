"""Batches that are a function of (seed, step).

>>> next(batches(np.zeros((1797, 8, 8, 1), np.float32), batch=32, seed=0, start=7)).shape
(32, 8, 8, 1)
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from jaxscore.data.images import Examples


def batches(
    examples: Examples,
    *,
    batch: int,
    seed: int,
    start: int = 0,
    rows: Int[np.ndarray, "m"] | None = None,
) -> Iterator[Float[np.ndarray, "b *event"]]:
    """Batches number start, start + 1, ... of an endless stream; number k depends on (seed, k) alone.

    The stream is one random permutation of all examples after another, cut into batches without
    a gap, so nothing is dropped and every example is seen equally often. Resuming is asking for the
    batch of the step. With `rows`, the numbers of some rows of the batch, they alone are read: what a
    process needs of a batch that it shares with others. Raises ValueError if batch < 1 or there are no
    examples.
    """
    n = len(examples)
    if batch < 1 or n < 1:
        raise ValueError(f"need batch >= 1 and at least one example, not {batch} and {n}")
    permutations: dict[int, np.ndarray] = {}
    step = start
    while True:
        place = np.arange(step * batch, (step + 1) * batch)
        place = place if rows is None else place[rows]
        epochs = range(place.min() // n, place.max() // n + 1)
        permutations = {e: permutations[e] if e in permutations else _permutation(seed, e, n) for e in epochs}
        stream = np.concatenate([permutations[e] for e in epochs])
        yield examples[stream[place - epochs[0] * n]]
        step += 1


def _permutation(seed: int, epoch: int, n: int) -> Int[np.ndarray, "n"]:
    return np.random.default_rng([seed, epoch]).permutation(n)

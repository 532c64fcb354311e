"""Named streams of randomness: the only place that makes a key from the seed of a run.

Two parts of a program that draw from different streams never share a key, whatever they fold into it:

>>> import jax
>>> train, data = stream(0, Stream.TRAIN), stream(0, Stream.DATA)
>>> bool((jax.random.key_data(train) == jax.random.key_data(data)).all())
False
"""

import enum

import jax

from jaxscore.types import Key


class Stream(enum.IntEnum):
    """What the random numbers are for. The values are part of every published figure: never renumber."""

    INIT = 0
    """The parameters before the first step."""
    TRAIN = 1
    """Noise levels, noise and dropout of training; folded with the step, then with the row."""
    SAMPLE = 2
    """Samples; folded with the number of the sample."""
    DATA = 3
    """Data that are drawn and not read."""
    EVALUATE = 4
    """Metrics that draw random numbers."""
    REPORT = 5
    """Pictures that draw random numbers."""


def stream(seed: int, name: Stream) -> Key:
    """Returns the key of the named stream: the seed's key, folded with the number of the stream.

    Keys are threefry's, whatever JAX_DEFAULT_PRNG_IMPL says: with other generators a row of noise depends
    on the rows beside it.
    """
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), int(name))

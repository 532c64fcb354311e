"""The data that all families see: what is trained on, what is held out, and the coordinates of both.

>>> setting = of("digits")
>>> setting.event, len(setting.train), len(setting.held_out)
((8, 8, 1), 1617, 180)
"""

import functools
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxscore import data, mixtures
from jaxscore.types import Array

GRID = mixtures.grid25
"""25 Gaussians: draws from its 25 modes of standard deviation 0.05, 2 apart."""

DRAWN = {"25gaussians": 50_000, "stacked_digits": 50_000}
"""The sets that are made here, and of how many examples they are."""

HELD_OUT = 0.1
"""The share of all examples that no family is trained on."""

STATISTICS = 10_000
"""Examples, at most, of which the mean and the spread are taken."""


class Setting(NamedTuple):
    """A data set: scaled examples have mean 0 and variance 1 over all of their numbers."""

    name: str
    train: data.Examples
    held_out: np.ndarray
    labels: np.ndarray
    """Of the examples trained on."""
    mean: np.ndarray
    """[1, *event], of the examples trained on."""
    std: float
    grey_values: int | None
    """Parts of 1 that pixels come in; None of points."""
    source: tuple
    """What `of` was asked for."""

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of an example."""
        return self.train.shape[1:]

    @property
    def dense(self) -> bool:
        """Whether examples are so small that dense layers do, in place of convolutions."""
        return int(np.prod(self.event)) <= 192

    def scaled(self, x: Array) -> Array:
        """(x - mean) / std, of examples as bytes or as they are."""
        return (data.pixels.unit(x) - self.mean) / self.std

    def restored(self, x: Array) -> Array:
        """What `scaled` was made of, pixels clipped to 0..1."""
        x = x * self.std + self.mean
        return x if self.grey_values is None else jnp.clip(x, 0, 1)


@functools.cache
def of(name: str, folder: Path | None = None, size: int | None = None) -> Setting:
    """The data set of that name: one of DRAWN, or `data.load`'s. Raises DataError if it is absent.

    Examples are held out at random, the same ones always.
    """
    if name == "25gaussians":
        examples, labels, _ = data.toy(GRID(), DRAWN[name], seed=0)
    elif name == "stacked_digits":
        examples, labels, _ = data.stacked_digits(DRAWN[name], seed=0)
    else:
        examples, labels, _ = _load(name, folder, size)
    order = np.random.default_rng(0).permutation(len(examples))
    held = max(round(HELD_OUT * len(order)), 1)
    out, kept = np.sort(order[: min(held, STATISTICS)]), np.sort(order[held:])
    some = np.asarray(examples[kept[:: -(-len(kept) // STATISTICS)]], np.float32)
    std = float((some - some.mean(axis=0)).std())
    if not std > 0:
        raise data.DataError(f"--data {name}: all examples are the same; there is nothing to learn")
    grey = {"25gaussians": None, "digits": 16, "stacked_digits": 16}.get(name, 255)
    mean = some.mean(axis=0, keepdims=True)
    return Setting(
        name, _some(examples, kept), examples[out], labels[kept], mean, std, grey, (name, folder, size)
    )


def _load(name: str, folder: Path | None, size: int | None) -> data.Dataset:
    try:
        return data.load(name, folder, size=size)
    except data.DataError as error:
        also = f", {', '.join(DRAWN)}" if "is not known" in str(error) else ""
        raise data.DataError(f"--data {name}: {error}{also}") from None


def _some(examples: data.Examples, numbers: np.ndarray) -> data.Examples:
    """Those examples: an array's rows, or Images that fetch no others."""
    if isinstance(examples, np.ndarray):
        return examples[numbers]
    shape = (len(numbers), *examples.shape[1:])
    return data.Images(lambda some: examples.take(numbers[some]), shape, in_memory=examples.in_memory)

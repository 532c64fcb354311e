"""The data of all families: the training set, the held-out set, and the scaling of both.

>>> setting = of("digits")
>>> setting.event, len(setting.train), len(setting.held_out)
((8, 8, 1), 1617, 180)
"""

import functools
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxscore import data, mixtures, samplers
from jaxscore.types import Array

GRID = mixtures.grid25
"""Makes the mixture of 25gaussians: 25 modes of standard deviation 0.05, 2 apart."""

DRAWN = {"25gaussians": 50_000, "stacked_digits": 50_000}
"""Data sets that are drawn here, and their numbers of examples."""

HELD_OUT = 0.1
"""Fraction of the examples that no family is trained on."""

STATISTICS = 10_000
"""Maximum number of examples for the mean and the standard deviation, and in the held-out set."""


class Setting(NamedTuple):
    """A data set; scaled training examples have mean 0, and variance 1 over all of their numbers."""

    name: str
    train: data.Examples
    held_out: np.ndarray
    labels: np.ndarray
    """Class labels of the training examples."""
    mean: np.ndarray
    """[1, *event], mean of the training examples."""
    std: float
    grey_values: int | None
    """Pixels are multiples of 1 / grey_values; None for points."""
    unscaled: samplers.Moments
    """Mean and covariance of the training examples; `moments` has those of the scaled ones."""
    source: tuple
    """Arguments of `of`."""

    @property
    def event(self) -> tuple[int, ...]:
        """Shape of an example."""
        return self.train.shape[1:]

    @property
    def dense(self) -> bool:
        """Whether examples are small enough for dense layers: at most 192 numbers."""
        return int(np.prod(self.event)) <= 192

    @property
    def moments(self) -> samplers.Moments:
        """Mean and covariance of the scaled training examples, with which samplers start."""
        mean, variances, axes = self.unscaled
        return samplers.Moments(self.scaled(mean[None])[0], variances / self.std**2, axes)

    def scaled(self, x: Array) -> Array:
        """(x - mean) / std; bytes are converted to 0..1 first."""
        return (data.pixels.unit(x) - self.mean) / self.std

    def restored(self, x: Array) -> Array:
        """x * std + mean, the inverse of `scaled`; pixels are clipped to 0..1."""
        x = x * self.std + self.mean
        return x if self.grey_values is None else jnp.clip(x, 0, 1)


@functools.cache
def of(name: str, folder: Path | None = None, size: int | None = None) -> Setting:
    """Returns the data set with this name: one of DRAWN or of `data.load`.

    The held-out examples are chosen at random with a fixed seed, so all runs hold out the same ones.

    Raises:
        DataError: if the data are absent, or if all examples are the same.
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
    mean, moments = some.mean(axis=0, keepdims=True), samplers.moments(some)
    train, source = _some(examples, kept), (name, folder, size)
    return Setting(name, train, examples[out], labels[kept], mean, std, grey, moments, source)


def _load(name: str, folder: Path | None, size: int | None) -> data.Dataset:
    try:
        return data.load(name, folder, size=size)
    except data.DataError as error:
        also = f", {', '.join(DRAWN)}" if "is not known" in str(error) else ""
        raise data.DataError(f"--data {name}: {error}{also}") from None


def _some(examples: data.Examples, numbers: np.ndarray) -> data.Examples:
    """Returns the examples with these numbers: rows of an array, or Images that fetch only these examples."""
    if isinstance(examples, np.ndarray):
        return examples[numbers]
    shape = (len(numbers), *examples.shape[1:])
    return data.Images(lambda some: examples.take(numbers[some]), shape, in_memory=examples.in_memory)

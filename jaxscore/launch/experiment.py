"""What an experiment is: pure functions, data, and a Config of flags; the launcher does the rest."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from jaxscore import trainer, updates
from jaxscore.data import Dataset, Examples
from jaxscore.launch.config import Config, Optimizer
from jaxscore.types import Array, Batch, Condition, Key, ParametricScore, Params


class Player(NamedTuple):
    """One of several adversaries: its loss, and the optimiser of its parameters, params[player]."""

    loss: updates.Loss
    optimizer: Optimizer
    untrained: tuple[str, ...] = ()
    """Entries of params[player] that the loss itself changes; see `updates.descent`."""


class Units(NamedTuple):
    """How the data and the score's x are made of each other; both are images in 0..1 by default."""

    encode: Callable[[Array], Array] = lambda data: data
    """encode(data[b, ...]) -> x, of data in 0..1 if they are images."""
    decode: Callable[[Array], Array] = lambda x: x
    """decode(x[b, ...]) -> data."""


class Experiment(NamedTuple):
    """Pure functions, and the data as a function of the step.

    An experiment has a `loss`, or it has `players` who take turns (`updates.alternating`).
    """

    name: str
    """The name in config.json, by which a folder belongs to an experiment."""
    config: Config
    init: Callable[[Key], Params]
    """init(key) -> params; `networks.init` makes it."""
    batches: Callable[..., Iterator[Batch]]
    """batches(batch=, seed=, start=, rows=) -> batches from `start` on; partial(data.batches, source)."""
    samplers: dict[str, Callable[..., Any]]
    """sampler(params, keys) -> array, or dict of arrays, with a row for each key.

    With `conditions` it is sampler(params, keys, condition). Samples are in the units of the data: images
    in 0..1, as `data.pixels.unit` makes them.
    """
    data: Dataset | None = None
    """The data set; its fingerprint tells a later run whether the data have changed."""
    reference: Examples | None = None
    """Images with which the FID compares the samples; those of `data` by default."""
    loss: updates.Loss | None = None
    """loss(params, context, batch) -> (value, metrics)."""
    constraint: optax.GradientTransformation | None = None
    """What comes after the optimiser of the loss, such as `edm2.forced`, which keeps norms of kernels."""
    untrained: tuple[str, ...] = ()
    """Entries of params that the loss itself changes, such as batch statistics; see `updates.descent`."""
    players: dict[str, Player] | None = None
    """The adversaries, in the order of their turns."""
    score: ParametricScore | None = None
    """The score that the network makes, for `open_run`."""
    units: Units = Units()
    """The units of the score's x."""
    description: Any = None
    """The `importers.Description` of the network, so that anybody can load the exported weights."""
    validate: Callable[[Params], Array] | None = None
    """validate(params) -> the loss of held-out examples, measured before each checkpoint; see `validation`.

    The params are what samplers get. Samples are drawn from the checkpoint with the lowest loss among those
    that are kept, so the Config sets `keep_best` to 1 or more.
    """
    conditions: Callable[[Array], Condition] | None = None
    """conditions(numbers[b]) -> the conditions of the samples with these numbers; see `balanced`."""
    evaluate: Callable[[Params, dict[str, np.ndarray]], dict[str, Any]] | None = None
    """evaluate(params, samples) -> metrics; distances to the data by default.

    With --inception the dictionary of an array of samples, metrics[NAME] or metrics["samplers"][NAME], gets
    the entry `fid`.
    """
    table: Callable[[dict[str, Any]], list[tuple[str, ...]]] | None = None
    """table(metrics) -> rows of text, the first a heading."""
    report: Callable[[Params, dict[str, np.ndarray], list[dict], Path], list[Path]] | None = None
    """report(params, samples, history, folder) -> the pictures drawn; samples and the loss by default."""
    compiler_options: dict[str, str] | None = None
    """What the training step and the samplers are compiled with, beside XLA's defaults."""
    averaged: Callable[[Params], Params] = trainer.identity
    """averaged(params) -> the parameters of which the average is kept; samplers get this average."""
    sampled: Callable[[Params], Params] = trainer.identity
    """sampled(average) -> what samplers, evaluate and report get in its place: with another model's, say."""


def balanced(n_classes: int, label: int | None = None) -> Callable[[Array], Array]:
    """Returns `conditions` that give sample i the class i mod n_classes, or all samples the class `label`."""
    if label is None:
        return lambda numbers: numbers % n_classes
    return lambda numbers: jnp.full_like(numbers, label)

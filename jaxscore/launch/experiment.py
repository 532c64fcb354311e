"""What an experiment is: pure functions, its data, and a Config of flags."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxscore import trainer
from jaxscore.launch.config import Config, Optimizer


class Experiment(NamedTuple):
    """Pure functions, and the data as a function of the step; `run` does the rest."""

    name: str
    config: Config
    init: Callable[[Any], Any]
    """init(key) -> params"""
    loss: trainer.Loss | tuple[trainer.Turn, ...]
    """loss(params, key, batch) -> (value, metrics), or the turns of players who have one each"""
    batches: Callable[..., Iterator[np.ndarray]]
    """batches(first step, rows=None) -> its batch and all that follow, or those rows of them"""
    samplers: dict[str, Callable[[Any, Any], Any]]
    """sampler(params, keys) -> array, or dict of arrays, with a row for each key"""
    evaluate: Callable[[Any, dict[str, np.ndarray]], dict[str, Any]]
    """evaluate(params, samples) -> metrics"""
    table: Callable[[dict[str, Any]], list[tuple[str, ...]]]
    """table(metrics) -> rows of text, the first a heading"""
    report: Callable[[Any, dict[str, np.ndarray], list[dict], Path], list[Path]]
    """report(params, samples, history, folder) -> the pictures it has made"""
    event: jax.ShapeDtypeStruct | None = None
    """Shape and type of an example, where they are known without a batch."""
    compiler_options: dict[str, str] | None = None
    """What the training step and the samplers are compiled with, beside XLA's defaults."""
    optimizers: dict[str, Optimizer] | None = None
    """With turns, each player's optimiser; without, it is the configuration's."""
    averaged: Callable[[Any], Any] = trainer.everything
    """averaged(params) -> those of which the average is kept, which is what is sampled from"""

"""What an experiment is: a Config of flags, and the Experiment that `build` makes of it."""

import dataclasses
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import optax

from experiments.flags import require, require_finite
from jaxscore import trainer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Adam with a linear warm-up, a constant rate, and a linear decay to zero."""

    learning_rate: float = 1e-3
    """The constant rate, reached after the warm-up."""
    warm_up: int = 100
    """Steps from zero to the constant rate."""
    decay: float = 0.5
    """The share of all steps, at the end, over which the rate falls to zero."""
    b2: float = 0.99
    """Decay of Adam's second moment."""
    epsilon: float = 1e-8
    """What Adam adds to the root of its second moment."""

    def __post_init__(self):
        rate = self.learning_rate
        require(rate > 0, "optimizer.learning-rate", rate, "must be positive")
        require(self.warm_up >= 0, "optimizer.warm-up", self.warm_up, "must be 0 or more")
        require(0 <= self.decay <= 1, "optimizer.decay", self.decay, "must lie in 0..1")
        require(0 <= self.b2 < 1, "optimizer.b2", self.b2, "must lie in 0..1, below 1")
        require(self.epsilon > 0, "optimizer.epsilon", self.epsilon, "must be positive")

    def build(self, steps: int) -> optax.GradientTransformation:
        """The optax optimiser for a run of `steps` steps."""
        fall = round(self.decay * steps)
        rise = min(self.warm_up, steps - fall)
        rate = optax.join_schedules(
            [
                optax.linear_schedule(self.learning_rate / (rise + 1), self.learning_rate, rise),
                optax.constant_schedule(self.learning_rate),
                optax.linear_schedule(self.learning_rate, 0.0, max(fall, 1)),
            ],
            [rise, steps - fall],
        )
        return optax.adam(rate, b2=self.b2, eps=self.epsilon)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What every experiment has; an experiment's own Config adds to it and sets the defaults."""

    workdir: Path
    """Folder for checkpoints, samples, metrics and pictures; a run found there is resumed."""
    mode: Literal["all", "train", "sample", "evaluate"] = "all"
    """What to do; `all` is the three in turn, leaving out what is up to date."""
    seed: int = 0
    """The root of all randomness."""
    steps: int = 1000
    """Training steps."""
    batch: int = 256
    """Examples in a training step, over all devices."""
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    ema_decay: float = 0.999
    """Decay of the average of the parameters, which is what is sampled from."""
    samples: int = 1000
    """How many samples each sampler draws."""
    sample_batch: int = 2000
    """How many are drawn at a time; no sample depends on it."""
    log_every: int = 100
    """Steps between lines of metrics."""
    save_every: int = 1000
    """Steps between checkpoints; there is always one at the end."""
    tensorboard: bool = False
    """Write the metrics as TensorBoard events too, into workdir/tensorboard (extra [tensorboard])."""

    def __post_init__(self):
        require_finite(self)
        for name in ("steps", "batch", "samples", "sample_batch", "log_every", "save_every"):
            value = getattr(self, name)
            require(value >= 1, name, value, "must be at least 1")
        installed = importlib.util.find_spec("tensorboardX") is not None
        remedy = "tensorboardX is not installed; pip install 'jaxscore[tensorboard]'"
        require(installed or not self.tensorboard, "tensorboard", self.tensorboard, remedy)
        require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "must lie in 0..1, below 1")
        require(0 <= self.seed < 2**32, "seed", self.seed, "must lie in 0..2^32 - 1")


class Experiment(NamedTuple):
    """Pure functions, and the data as a function of the step; `launch.run` does the rest."""

    name: str
    config: Config
    init: Callable[[Any], Any]
    """init(key) -> params"""
    loss: trainer.Loss
    """loss(params, key, batch) -> (value, metrics)"""
    batches: Callable[[int], Iterator[np.ndarray]]
    """batches(first step) -> the batches of that step and all that follow"""
    samplers: dict[str, Callable[[Any, Any], Any]]
    """sampler(params, keys) -> array, or dict of arrays, with a row for each key"""
    evaluate: Callable[[Any, dict[str, np.ndarray]], dict[str, Any]]
    """evaluate(params, samples) -> metrics"""
    table: Callable[[dict[str, Any]], list[tuple[str, ...]]]
    """table(metrics) -> rows of text, the first a heading"""
    report: Callable[[Any, dict[str, np.ndarray], list[dict], Path], list[Path]]
    """report(params, samples, history, folder) -> the pictures it has made"""
    compiler_options: dict[str, str] | None = None
    """What the training step and the samplers are compiled with, beside XLA's defaults."""

"""The flags of the experiment on posteriors from simulations; their defaults are the recipe for all tasks."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from jaxscore.launch import Config as BaseConfig
from jaxscore.launch import Optimizer
from jaxscore.launch.flags import Count, Fraction, Levels, Positive, check, require, require_sigmas
from jaxscore.metrics import calibration


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """DPM-Solver++(2M) on the probability flow, over the levels of Karras et al. 2022 (rho = 7)."""

    levels: Levels = 30
    """Number of noise levels, each with one evaluation of the network."""
    sigma_min: Positive = 0.002
    """Smallest noise level before 0, in standard deviations of the encoded parameters."""
    sigma_max: float = 80.0
    """Largest noise level, where sampling starts."""

    def __post_init__(self):
        check(self, "sampling.")
        require_sigmas(self.sigma_min, self.sigma_max, prefix="sampling.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """Checks of the posteriors of fresh simulations, which no reference draws are needed for."""

    simulations: Annotated[int, Meta(ge=calibration.FEWEST)] = 400
    """Number of fresh simulations whose posteriors are drawn from."""
    draws: Annotated[int, Meta(ge=2)] = 100
    """Number of draws for each of them."""
    densities: Annotated[int, Meta(ge=0)] = 100
    """Number of fresh simulations whose posterior densities are computed too; 0 for none."""
    density_draws: Annotated[int, Meta(ge=2)] = 30
    """Number of draws for each of these."""
    tolerance: Annotated[float, Meta(ge=1e-6)] = 1e-3
    """Tolerance of the log densities, in nats."""

    def __post_init__(self):
        check(self, "calibration.")
        n, least = self.densities, calibration.FEWEST
        require(n == 0 or n >= least, "calibration.densities", n, f"must be 0, or at least {least}")
        for name, most in (("densities", "simulations"), ("density_draws", "draws")) if n else ():
            value, bound = getattr(self, name), getattr(self, most)
            text = f"must be at most --calibration.{most} {bound}"
            require(value <= bound, f"calibration.{name}", value, text)


def optimizer(weight_decay: float) -> Optimizer:
    """Returns AdamW with a cosine decay of the learning rate and clipped gradients.

    A weight decay shrinks a matrix by exp(-rate * weight_decay) per step, so over 12,000 steps of mean rate
    5e-4 a decay of 0.5 means a factor of exp(-3).
    """
    given = {"kind": "adamw", "learning_rate": 1e-3, "decay": 1.0, "fall": "cosine", "clip": 1.0}
    return Optimizer(weight_decay=weight_decay, **given)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """A score network of parameters given data, trained on simulations, for every observation of a task."""

    workdir: Path = Path("runs/sbi-two_moons")
    task: Literal["two_moons", "gaussian_linear", "gaussian_mixture", "slcp", "bernoulli_glm"] = "two_moons"
    """Prior and simulator; see `experiments.sbi.tasks`."""
    simulations: Annotated[int, Meta(ge=20, le=100_000_000)] = 30_000
    """Number of simulations, those of --held-out included."""
    held_out: Fraction = 0.05
    """Fraction of the simulations that the validation loss is measured on."""
    steps: int = 12_000
    batch: int = 256
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: optimizer(weight_decay=0.5))
    save_every: int = 1000
    log_every: int = 200
    keep: int = 1
    keep_best: Annotated[int, Meta(ge=1)] = 1
    samples: Count = 100_000
    """Number of draws, which the ten observations of the task share evenly."""
    sample_batch: Count = 10_000
    width: Count = 192
    """Width of the network."""
    depth: Count = 4
    """Number of residual blocks of the network."""
    embedding: Count = 64
    """Width of the embeddings of the noise level and of the observation."""
    dropout: Fraction = 0.1
    """Fraction of hidden units dropped in training; against overfitting."""
    exchangeable: bool = True
    """Use that y is several independent points (slcp: four). The network then sees their mean, their standard
    deviation, and the points relative to both, in a new random order in every step."""
    sigma_mean: float = -1.2
    """Mean of ln sigma in training; sigma in standard deviations of the encoded parameters."""
    sigma_std: Positive = 1.4
    """Standard deviation of ln sigma in training."""
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    calibration: Calibration = dataclasses.field(default_factory=Calibration)
    c2st_draws: Annotated[int, Meta(ge=10, le=10_000)] = 2000
    """Number of draws of each observation that the two-sample test uses; published figures use 10,000."""
    c2st_observations: Annotated[int, Meta(ge=1, le=10)] = 10
    """Number of observations that the two-sample test is run for, from the first on."""

    def __post_init__(self):
        super().__post_init__()
        held = round(self.held_out * self.simulations)
        reason = f"leaves {held} of {self.simulations} simulations for the validation; at least 2 are needed"
        require(held >= 2, "held-out", self.held_out, reason)
        left = self.simulations - held
        reason = f"leaves {left} of {self.simulations} simulations for the training; at least 2 are needed"
        require(left >= 2, "held-out", self.held_out, reason)

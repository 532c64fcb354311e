"""Consistency models (Song et al. 2023; Song & Dhariwal 2024; Lu & Song 2024): samples in one or two steps.

    python -m experiments.families.consistency --data digits
    python -m experiments.families.distilled --data digits

The network first learns to denoise. It then learns to go to the end of the probability flow in one step, from
the data alone (`distilled` learns from its own teacher).
"""

import dataclasses
from functools import partial
from typing import Literal

import jax.numpy as jnp

from experiments.families import family, students
from experiments.families import setting as settings
from experiments.families.students import evaluations as evaluations
from jaxscore import consistency, launch, noise, objectives
from jaxscore.launch import Experiment
from jaxscore.launch.flags import Count, Positive, require
from jaxscore.score import from_denoiser


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(students.Config):
    """A consistency function, trained over the cells of a grid of noise levels, or in continuous time."""

    source: Literal["data", "teacher"] = "data"
    """What gives the direction of the probability flow: the example itself, or the teacher."""
    continuous: bool = False
    """Whether the objective is the one of continuous time, which needs no grid. On digits it is stable with
    --optimizer.learning-rate 3e-4 --student-mean -0.4 --student-std 1.2, and diverges by default."""
    first_cells: Count = 10
    """Number of cells at the start of the second phase."""
    last_cells: Count = 160
    """Number of cells at its end; the number doubles at even intervals."""
    student_mean: float = -1.1
    """Mean of ln sigma in the second phase."""
    student_std: Positive = 2.0
    """Standard deviation of ln sigma in the second phase."""

    def __post_init__(self):
        super().__post_init__()
        remedy = f"must be at least {self.first_cells}, the first-cells"
        require(self.last_cells >= self.first_cells, "last_cells", self.last_cells, remedy)


def build(config: Config, name: str = "consistency") -> Experiment:
    """Returns the experiment that the flags describe. Raises data.DataError if the data are absent."""
    setting = settings.of(config.data, config.data_dir, config.size)
    network = family.score_network(config, setting)
    function = consistency.preconditioned(network.apply, 1.0, config.sigma_min)
    training = noise.lognormal(config.student_mean, config.student_std)

    def score(params, x, sigma):
        return from_denoiser(partial(function, params))(x, sigma)

    def learn(params, teacher, context, x):
        objective = objective_of(config, teacher, context.step)
        return objectives.over_levels(objective, training)(partial(function, params), context.key, x)

    sampler = consistency.renoise(config.sigma_min)
    return students.experiment(f"families.{name}", config, setting, network, score, learn, sampler)


def objective_of(config: Config, teacher, step):
    """Returns the objective at a step of the second phase."""
    score, steps = teacher if config.source == "teacher" else None, max(config.steps - config.taught, 1)
    if config.continuous:
        return consistency.continuous(1.0, score=score, ramp=jnp.minimum(4 * step / steps, 1.0))
    n = consistency.curriculum(step, steps, first=config.first_cells, last=config.last_cells)
    cells = consistency.cells(n, config.sigma_min, config.sigma_max)
    return consistency.training(cells) if score is None else consistency.distillation(score, cells)


if __name__ == "__main__":
    launch.main(build, Config())

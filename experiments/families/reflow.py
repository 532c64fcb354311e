"""Reflow (Liu et al. 2023): a score whose flow is straight, learnt from pairs that its teacher makes.

    python -m experiments.families.reflow --data digits

The network first learns to denoise. In the second phase the teacher makes pairs of noise and example by its
probability flow, and the network learns the straight lines between them, which Euler's method follows in one
or two steps.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from experiments.families import family, students
from experiments.families import setting as settings
from experiments.families.students import evaluations as evaluations
from jaxscore import consistency, launch, noise, objectives, samplers
from jaxscore.launch import Experiment
from jaxscore.launch.flags import Count, Levels, Positive, require
from jaxscore.score import preconditioned


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(students.Config):
    """A score, trained as in EDM and then on pairs; Euler's method in one and two steps."""

    teacher: students.UnitInterval = 0.6
    levels: Levels = 6
    """Number of levels of Heun's method, by which the teacher makes the pairs."""
    copies: Count = 4
    """Number of noise levels at which a pair is used; a batch has batch / copies pairs."""
    shift: Positive = 20.0
    """Shift of the noise levels of the second phase, as in `noise.flow`."""

    def __post_init__(self):
        super().__post_init__()
        require(self.batch % self.copies == 0, "copies", self.copies, f"must divide the batch {self.batch}")


def build(config: Config) -> Experiment:
    """Returns the experiment that the flags describe. Raises data.DataError if the data are absent."""
    setting = settings.of(config.data, config.data_dir, config.size)
    network = family.score_network(config, setting)
    score = preconditioned(network.apply, sigma_data=1.0)
    sigmas = noise.levels(noise.karras(config.sigma_min, config.sigma_max), config.levels)
    straight = noise.flow(shift=config.shift, t_max=config.sigma_max / (config.sigma_max + config.shift))

    def learn(params, teacher, context, x):
        keys, shape = jax.random.split(context.key), (len(x) // config.copies, *setting.event)
        made = consistency.pairs(keys[0], shape, sigmas, teacher, samplers.heun(), moments=setting.moments)
        x, n = (jnp.repeat(each, config.copies, axis=0) for each in made)
        objective = objectives.over_levels(consistency.reflow(n), straight, weight=objectives.edm(1.0))
        return objective(partial(score, params), keys[1], x)

    return students.experiment("families.reflow", config, setting, network, score, learn, samplers.euler())


if __name__ == "__main__":
    launch.main(build, Config())

"""Common parts of the few-step families: a network learns to denoise, then to take large steps.

Both phases share the budget. In the first one the network is trained as in EDM. At its end the average of the
parameters becomes the teacher, which stays as it is, and the network goes on as the student.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp
import optax
from msgspec import Meta

from experiments.families import family
from experiments.families.setting import Setting
from jaxscore import networks, noise, objectives, samplers
from jaxscore.launch import Experiment, Optimizer
from jaxscore.launch.flags import Positive, require, require_sigmas
from jaxscore.networks import MLP, UNet
from jaxscore.score import preconditioned
from jaxscore.types import Array, ParametricScore, Params, ScoreFn
from jaxscore.updates import Context

UnitInterval = Annotated[float, Meta(ge=0, le=1)]
Learn = Callable[[Params, ScoreFn, Context, Array], Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(family.Config):
    """Flags of the few-step families."""

    teacher: UnitInterval = 0.5
    """Fraction of the steps, at the start, in which the network learns to denoise; this makes the teacher."""
    sigma_mean: float = -0.5
    """Mean of ln sigma in the first phase; the data have standard deviation 1."""
    sigma_std: Positive = 1.3
    """Standard deviation of ln sigma in the first phase."""
    sigma_min: Positive = 0.02
    """Smallest noise level."""
    sigma_max: float = 40.0
    """Largest noise level, where sampling starts."""
    sigma_middle: Positive = 2.0
    """Noise level between the two steps of the second sampler."""
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer(learning_rate=2e-3, decay=0.5))

    def __post_init__(self):
        super().__post_init__()
        require_sigmas(self.sigma_min, self.sigma_max)
        inside = self.sigma_min < self.sigma_middle < self.sigma_max
        require(inside, "sigma_middle", self.sigma_middle, "must lie between sigma-min and sigma-max")

    @property
    def taught(self) -> int:
        """Number of steps of the first phase."""
        return round(self.teacher * self.steps)


def evaluations(config: Config) -> dict[str, int]:
    """Returns the evaluations of the network for a sample, by sampler."""
    return {"one step": 1, "two steps": 2}


def annealing(config: Config) -> Callable[[Array], Array]:
    """Returns step -> factor of the learning rate, which falls to 0 at the end of the first phase.

    In the second phase it is 1. The factor falls in the fraction optimizer.decay of the first phase.
    """
    length = max(config.optimizer.decay * config.taught, 1)
    fall = lambda step: jnp.clip((config.taught - step) / length, 0.0, 1.0)
    return lambda step: jnp.where(step < config.taught, fall(step), 1.0)


def experiment(
    name: str,
    config: Config,
    setting: Setting,
    network: MLP | UNet,
    student: ParametricScore,
    learn: Learn,
    sampler: samplers.Sampler,
) -> Experiment:
    """Returns the Experiment of a few-step family.

    Args:
        name: name of the experiment.
        config: flags.
        setting: data set.
        network: network of both phases.
        student: the score of the second phase, which is sampled.
        learn: learn(params, teacher, context, x) -> losses [b] of the second phase, whose first step is 0.
        sampler: takes one step, or two.
    """
    score = preconditioned(network.apply, sigma_data=1.0)
    training = noise.lognormal(config.sigma_mean, config.sigma_std)
    denoising = objectives.over_levels(objectives.noise_conditional, training, weight=objectives.edm(1.0))
    init = networks.init(network, setting.event)

    def loss(params, context, batch):
        own, fixed, x = params["network"], params["teacher"], batch["x"]
        later = context._replace(step=context.step - config.taught)
        first = lambda own: denoising(partial(score, own), context.key, x).mean()
        second = lambda own: learn(own, partial(score, fixed), later, x).mean()
        teaching = context.step < config.taught
        if 0 < config.taught < config.steps:
            value = jax.lax.cond(teaching, first, second, own)
        else:
            value = first(own) if config.taught else second(own)
        kept = jax.tree.map(partial(jnp.where, teaching), context.ema, fixed)
        return value, {"untrained": {"teacher": kept}}

    def doubled(key):
        params = init(key)
        return {"network": params, "teacher": params}

    levels = {"one step": (config.sigma_max, 0.0), "two steps": (config.sigma_max, config.sigma_middle, 0.0)}
    draw = lambda sigmas: family.drawn(student, setting, jnp.array(sigmas), sampler)
    return family.experiment(
        name,
        config,
        setting,
        init=doubled,
        loss=loss,
        samplers={label: draw(sigmas) for label, sigmas in levels.items()},
        score=student,
        constraint=optax.scale_by_schedule(annealing(config)),
        untrained=("teacher",),
        averaged=lambda params: params["network"],
    )

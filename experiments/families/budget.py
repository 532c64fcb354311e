"""Equal budgets: the number of training steps that a family gets for a number of FLOPs."""

import dataclasses
from collections.abc import Callable

import jax

from jaxscore import plan, sharding
from jaxscore.launch import programs
from jaxscore.launch.config import Config
from jaxscore.launch.experiment import Experiment


def cost(build: Callable[[Config], Experiment], config: Config) -> float:
    """FLOPs of a training step: the FLOPs of all products in the program compiled for one device.

    The body of a loop counts once for each pass. XLA's own count has it once, and the layers of a flow are a
    loop. A gradient penalty that is computed every `interval` steps counts with 1 / interval of its FLOPs. A
    training of two phases costs the mean of both, weighted by their numbers of steps.
    """
    if teacher := getattr(config, "teacher", 0.0):
        first, second = (_flops(build(dataclasses.replace(config, teacher=part))) for part in (1.0, 0.0))
        return teacher * first + (1 - teacher) * second
    if not getattr(config, "penalty", 0.0):
        return _flops(build(config))
    always = _flops(build(dataclasses.replace(config, interval=1)))
    never = _flops(build(dataclasses.replace(config, penalty=0.0)))
    return never + (always - never) / config.interval


def _flops(experiment: Experiment) -> float:
    one = sharding.mesh(devices=jax.local_devices()[:1])
    return float(plan.cost(programs.lower_step(experiment, one).compile()).flops)


def within(build: Callable[[Config], Experiment], config: Config, flops: float) -> tuple[Config, float]:
    """The configuration with the number of steps that cost `flops`, at least one, and the FLOPs of a step."""
    each = cost(build, config)
    return dataclasses.replace(config, steps=max(round(flops / each), 1)), each

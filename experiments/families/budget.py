"""Equal budgets: how many training steps of a family so many FLOPs are."""

import dataclasses
from collections.abc import Callable

import jax

from jaxscore import plan, sharding
from jaxscore.launch import programs
from jaxscore.launch.config import Config
from jaxscore.launch.experiment import Experiment


def cost(build: Callable[[Config], Experiment], config: Config) -> float:
    """FLOPs of a training step: those of all products in the program that is compiled for one device.

    Loops are multiplied out, which XLA's own count does not do: a flow's layers are one. Of a gradient
    penalty that is computed every `interval` steps, that part of its cost.
    """
    if not getattr(config, "penalty", 0.0):
        return _flops(build(config))
    always = _flops(build(dataclasses.replace(config, interval=1)))
    never = _flops(build(dataclasses.replace(config, penalty=0.0)))
    return never + (always - never) / config.interval


def _flops(experiment: Experiment) -> float:
    mesh = sharding.mesh(devices=jax.local_devices()[:1])
    state, batch = programs.abstract_state(experiment, mesh), programs.abstract_batch(experiment, mesh)
    step = programs.make_step(experiment, mesh)
    return float(plan.cost(step.lower(jax.random.key(0), state, batch).compile()).flops)


def within(build: Callable[[Config], Experiment], config: Config, flops: float) -> tuple[Config, float]:
    """The configuration with as many steps as `flops` pay for, at least one, and what a step costs."""
    each = cost(build, config)
    return dataclasses.replace(config, steps=max(round(flops / each), 1)), each

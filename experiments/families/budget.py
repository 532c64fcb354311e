"""Equal budgets: how many training steps of a family so many FLOPs are."""

import dataclasses
from collections.abc import Callable

import jax

from experiments import programs
from experiments.config import Config, Experiment


def cost(experiment: Experiment) -> float:
    """FLOPs of a training step, as XLA counts those of the program that it has compiled for one device.

    Both branches of what happens at some steps only, as a lazy gradient penalty, count.
    """
    mesh = programs.sharding.mesh(devices=jax.local_devices()[:1])
    state, batch = programs.abstract_state(experiment, mesh), programs.abstract_batch(experiment, mesh)
    step = programs.make_step(experiment, mesh)
    return float(step.lower(jax.random.key(0), state, batch).compile().cost_analysis()["flops"])


def within(build: Callable[[Config], Experiment], config: Config, flops: float) -> tuple[Config, float]:
    """The configuration with as many steps as `flops` pay for, at least one, and what a step costs."""
    each = cost(build(config))
    return dataclasses.replace(config, steps=max(round(flops / each), 1)), each

"""Workloads of `bench`: experiments on random data, each with a sampler that is short enough to be timed.

A sampler's time is proportional to its evaluations of the network, because all evaluations cost the same.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from experiments import digits as digits_experiment
from experiments import edm, ncsn
from experiments.edm import experiment as edm_experiment
from experiments.edm.config import Network
from experiments.plan import recipes
from jaxscore import samplers
from jaxscore.launch.experiment import Experiment


class Workload(NamedTuple):
    """An experiment to train, and the same experiment with a short sampler."""

    experiment: Experiment
    precision: str
    sampled: Experiment
    """The experiment whose sampler is timed."""
    sampler: str
    """Name of the timed sampler."""
    evaluations: int
    """Network evaluations of the timed sampler."""
    whole: int
    """Network evaluations of the experiment's whole sampler."""


def digits() -> Workload:
    """Returns the residual network of `experiments.digits`, sampled by Heun's method."""
    config = digits_experiment.Config()
    experiment = digits_experiment.build(config)
    evaluations = samplers.evaluations(samplers.heun(), config.heun.levels)
    return Workload(experiment, "float32", experiment, "heun", evaluations, evaluations)


def ncsn_workload(preset: str, **changes) -> Workload:
    """Returns NCSN or NCSNv2 on random images of the preset's size, timed with two levels of its sampler."""
    config = recipes.without_data(ncsn.PRESETS[preset])
    config = dataclasses.replace(config, ablate=False, **changes)
    short = dataclasses.replace(config, levels=2, samples=config.batch, sample_batch=config.batch)
    count = lambda config: config.levels * config.langevin_steps + 1
    built, sampled = ncsn.build(config), ncsn.build(short)
    return Workload(built, config.precision, sampled, "langevin", count(short), count(config))


def edm_workload(
    preset: str = "cifar10", network: Network | None = None, batch: int | None = None
) -> Workload:
    """Returns a preset of `experiments.edm` on random images, timed with two levels of its sampler.

    Args:
        preset: name of the preset.
        network: another network, without augmentation; by default that of the preset.
        batch: examples in a training step, and samples; by default those of the preset.
    """
    config = recipes.without_data(edm.PRESETS[preset])
    if network is not None:
        config = dataclasses.replace(config, network=network, augment=0.0)
    size = batch or config.batch
    config = dataclasses.replace(config, batch=size, samples=size, sample_batch=size)
    brief = dataclasses.replace(config.sampling, levels=2)
    built, sampled = (
        edm.build(dataclasses.replace(config, sampling=each)) for each in (config.sampling, brief)
    )
    networks = 1 if config.sampling.scale == 1 else 2
    count = lambda experiment: networks * edm_experiment.evaluations(experiment.config)
    return Workload(built, config.precision, sampled, "samples", count(sampled), count(built))


SMALL = {"channels": 64, "multipliers": (1, 2, 2), "blocks": 2, "attention": (1,)}
"""Half the width of Ho et al. 2020, for images of 32 x 32 x 3 on a CPU."""

NETWORKS = {
    "ddpmpp": Network(kind="ddpmpp", **SMALL),
    "adm": Network(kind="adm", **SMALL),
    "edm2": Network(kind="edm2", **SMALL),
    "dit": Network(kind="dit", channels=256, blocks=8, heads=4, patch=4),
}

WORKLOADS: dict[str, Callable[[], Workload]] = {
    "digits": digits,
    "ncsnv2": partial(ncsn_workload, "cifar10", channels=64, batch=16),
    **{name: partial(edm_workload, network=network, batch=16) for name, network in NETWORKS.items()},
    "cifar10": partial(ncsn_workload, "cifar10"),
    "cifar10_bfloat16": partial(ncsn_workload, "cifar10", precision="bfloat16"),
    "ncsn_v1": partial(ncsn_workload, "ncsn_v1"),
    **{f"edm_{preset}": partial(edm_workload, preset) for preset in edm.PRESETS},
}
"""`cifar10` is the published NCSNv2. `ncsnv2` has width 64 and batches of 16 images instead, for a CPU, as
have the networks of NETWORKS. Names that begin with edm_ are presets of `experiments.edm`."""

"""Workloads of `bench`: experiments on random data, each with a sampler that is short enough to be timed.

A sampler's time is proportional to its evaluations of the network, because all evaluations cost the same.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments import digits as digits_experiment
from experiments import ncsn
from experiments.plan import recipes
from jaxscore import data, networks, noise, objectives, samplers
from jaxscore.launch.compiler import compiler_options
from jaxscore.launch.config import Config
from jaxscore.launch.experiment import Experiment
from jaxscore.networks import UNet
from jaxscore.score import preconditioned


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNetConfig(Config):
    """U-Net for images of 32 x 32 x 3: attention at 16 x 16 as in Ho et al. 2020, and half their width."""

    workdir: Path = Path("runs/unet")
    batch: int = 16
    channels: int = 64
    n_levels: int = 18
    samples: int = 16
    sample_batch: int = 16


def unet(config: UNetConfig | None = None) -> Workload:
    """Returns a U-Net preconditioned as in Karras et al. 2022, timed with two levels of Heun's method."""
    config = config or UNetConfig()
    images = np.random.default_rng(0).random((config.batch, 32, 32, 3), np.float32)
    network = UNet(channels=config.channels, multipliers=(1, 2, 2), blocks=2, attention=(1,))
    score = preconditioned(network.apply, 0.5)

    objective = objectives.over_levels(
        objectives.noise_conditional, noise.lognormal(-1.2, 1.2), weight=objectives.edm(0.5)
    )

    def loss(params, context, batch):
        return objective(partial(score, params), context.key, batch["x"]).mean(), {}

    def heun(params, keys):
        sigmas = noise.levels(noise.karras(0.002, 80.0), 2)
        return samplers.generate(keys, (32, 32, 3), sigmas, partial(score, params), samplers.heun())

    experiment = Experiment(
        name="unet",
        config=config,
        init=networks.init(network, (32, 32, 3)),
        loss=loss,
        batches=partial(data.batches, {"x": images}),
        samplers={"heun": heun},
        compiler_options=compiler_options(),
    )
    count = partial(samplers.evaluations, samplers.heun())
    return Workload(experiment, "float32", experiment, "heun", count(2), count(config.n_levels))


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "digits": digits,
    "ncsnv2": partial(ncsn_workload, "cifar10", channels=64, batch=16),
    "unet": unet,
    "cifar10": partial(ncsn_workload, "cifar10"),
    "cifar10_bfloat16": partial(ncsn_workload, "cifar10", precision="bfloat16"),
    "ncsn_v1": partial(ncsn_workload, "ncsn_v1"),
}
"""`cifar10` is the published NCSNv2. `ncsnv2` has width 64 and batches of 16 images instead, for a CPU."""

"""NCSN (Song & Ermon 2019): the lecture's noise-conditional score network and annealed Langevin dynamics.

    python -m experiments.families.ncsn --data digits

Levels in geometric progression, all equally likely in training, lambda = sigma^2; the last level is denoised
(Song & Ermon 2020). The network is preconditioned, as EDM's: all diffusion families have the same one.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from experiments.families import family
from experiments.families import setting as settings
from jaxscore import launch, noise, objectives, samplers
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.flags import require, require_sigmas
from jaxscore.score import denoise, preconditioned


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(family.Config):
    """A score network at L levels, and T Langevin steps at each."""

    sigma_min: float = 0.05
    """The last level, sigma_L; the data have standard deviation 1."""
    sigma_max: float = 10.0
    """The first level, sigma_1."""
    levels: int = 200
    """How many levels, L."""
    langevin_steps: int = 2
    """Langevin steps at each level, T."""
    step_size: float = 0.065
    """The step at level l in units of sigma_l^2: epsilon / sigma_L^2."""

    def __post_init__(self):
        super().__post_init__()
        require_sigmas(self.sigma_min, self.sigma_max)
        require(self.levels >= 2, "levels", self.levels, "must be at least 2")
        require(self.langevin_steps >= 1, "langevin_steps", self.langevin_steps, "must be at least 1")
        remedy = "must lie between 0 and 2: Langevin dynamics diverges from 2 sigma^2 on"
        require(0 < self.step_size < 2, "step-size", self.step_size, remedy)


def evaluations(config: Config) -> dict[str, int]:
    """Of each sampler."""
    return {"annealed Langevin": config.levels * config.langevin_steps + 1}


def build(config: Config) -> Experiment:
    """The experiment that the configuration describes. Raises data.DataError if the data are absent."""
    setting = settings.of(config.data, config.data_dir, config.size)
    network = family.score_network(config, setting)
    score = preconditioned(network.apply, sigma_data=1.0)
    sigmas = noise.levels(noise.geometric(config.sigma_min, config.sigma_max), config.levels)
    return family.experiment(
        "families.ncsn",
        config,
        setting,
        init=lambda key: network.init(key, *family.zeros(setting)),
        loss=partial(loss, sigmas[:-1], score),
        samplers=dict.fromkeys(evaluations(config), partial(sample, config, sigmas, score, setting.event)),
    )


def loss(sigmas, score, params, key, x):
    """1/2 |sigma s(x + sigma n, sigma) + n|^2, sigma one of the levels."""
    key_level, key_noise = jax.random.split(key)
    number = jnp.floor(noise.stratified(key_level, len(x)) * len(sigmas)).astype(int)
    losses = objectives.noise_conditional(partial(score, params), key_noise, x, sigmas[number])
    return losses.mean(), {}


def sample(config: Config, sigmas, score, event, params, keys) -> jax.Array:
    """Annealed Langevin dynamics and a denoising step, a sample for each key."""
    step_size = samplers.annealed(config.step_size * config.sigma_min**2, config.sigma_min)
    annealed = samplers.repeat(samplers.langevin(step_size), config.langevin_steps)
    x = samplers.prior(noise.fold_in(keys, 0), (len(keys), *event), sigmas[0])
    x, _ = samplers.sample(noise.fold_in(keys, 1), x, sigmas, partial(score, params), annealed)
    return denoise(partial(score, params), x, jnp.full(len(x), config.sigma_min))


if __name__ == "__main__":
    launch.main(build, Config())

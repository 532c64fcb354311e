"""NCSN (Song & Ermon 2019): the lecture's noise-conditional score network and annealed Langevin dynamics.

    python -m experiments.families.ncsn --data digits

The levels are a geometric progression, and training draws all of them equally often with the weight
lambda = sigma^2. A denoising step at the last level ends the sampling (Song & Ermon 2020). The network is
the one of the other diffusion families, preconditioned as in EDM.
"""

import dataclasses
from functools import partial

import jax.numpy as jnp

from experiments.common.langevin import StepSize, advise
from experiments.families import family
from experiments.families import setting as settings
from jaxscore import launch, networks, noise, objectives, samplers
from jaxscore.launch import Experiment
from jaxscore.launch.flags import Count, Levels, Positive, require_sigmas
from jaxscore.score import denoise, preconditioned


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(family.Config):
    """A score network at L levels, and T Langevin steps at each."""

    sigma_min: Positive = 0.05
    """Smallest noise level, sigma_L; the data have standard deviation 1."""
    sigma_max: float = 10.0
    """Largest noise level, sigma_1."""
    levels: Levels = 200
    """Number of noise levels, L."""
    langevin_steps: Count = 2
    """Number of Langevin steps at each level, T."""
    step_size: StepSize = 0.065
    """Langevin step at level l in units of sigma_l^2, epsilon / sigma_L^2."""

    def __post_init__(self):
        super().__post_init__()
        require_sigmas(self.sigma_min, self.sigma_max)


def evaluations(config: Config) -> dict[str, int]:
    """Returns the evaluations of the network for a sample, by sampler; the final denoising step is one."""
    return {"annealed Langevin": samplers.evaluations(annealed(config), config.levels) + 1}


def build(config: Config) -> Experiment:
    """Returns the experiment that the flags describe. Raises data.DataError if the data are absent."""
    advise(config.step_size, config.sigma_min, config.sigma_max, config.levels, config.langevin_steps)
    setting = settings.of(config.data, config.data_dir, config.size)
    network = family.score_network(config, setting)
    score = preconditioned(network.apply, sigma_data=1.0)
    sigmas = noise.levels(noise.geometric(config.sigma_min, config.sigma_max), config.levels)
    objective = objectives.over_levels(objectives.noise_conditional, noise.uniform_over(sigmas[:-1]))
    draw = family.drawn(score, setting, sigmas, annealed(config))

    def denoised(params, keys):
        x = draw(params, keys)
        return denoise(partial(score, params), x, jnp.full(len(x), config.sigma_min))

    return family.experiment(
        "families.ncsn",
        config,
        setting,
        init=networks.init(network, setting.event),
        loss=family.averaged(objective, score),
        samplers={"annealed Langevin": denoised},
        score=score,
    )


def annealed(config: Config) -> samplers.Sampler:
    """Returns the sampler that takes T Langevin steps at each level."""
    step_size = samplers.annealed(config.step_size * config.sigma_min**2, config.sigma_min)
    return samplers.repeat(samplers.langevin(step_size), config.langevin_steps)


if __name__ == "__main__":
    launch.main(build, Config())

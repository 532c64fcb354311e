"""Diffusion as EDM has it (Karras et al. 2022): a preconditioned denoiser, sampled by Heun's method.

python -m experiments.families.edm --data digits
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
from jaxscore.score import preconditioned


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(family.Config):
    """A score network at ln sigma ~ N(mean, std^2), and Heun's method with many levels and with few."""

    sigma_mean: float = -0.5
    """Mean of ln sigma in training; the data have standard deviation 1."""
    sigma_std: float = 1.3
    """Standard deviation of ln sigma in training."""
    sigma_min: float = 0.02
    """The last level before zero."""
    sigma_max: float = 40.0
    """The first level."""
    levels: tuple[int, ...] = (18, 5)
    """Of Heun's method: a sampler for each; n levels cost 2 n - 1 evaluations."""

    def __post_init__(self):
        super().__post_init__()
        require_sigmas(self.sigma_min, self.sigma_max)
        require(self.sigma_std > 0, "sigma-std", self.sigma_std, "must be positive")
        wrong = " ".join(map(str, self.levels))
        require(self.levels and min(self.levels) >= 2, "levels", wrong, "must be 2 or more each")


def evaluations(config: Config) -> dict[str, int]:
    """Of each sampler."""
    return {f"Heun, {levels} levels": 2 * levels - 1 for levels in config.levels}


def build(config: Config) -> Experiment:
    """The experiment that the configuration describes. Raises data.DataError if the data are absent."""
    setting = settings.of(config.data, config.data_dir, config.size)
    network = family.score_network(config, setting)
    score = preconditioned(network.apply, sigma_data=1.0)
    draw = partial(sample, config, score, setting.event)
    return family.experiment(
        "families.edm",
        config,
        setting,
        init=lambda key: network.init(key, *family.zeros(setting)),
        loss=partial(loss, noise.lognormal(config.sigma_mean, config.sigma_std), score),
        samplers={
            label: partial(draw, levels)
            for label, levels in zip(evaluations(config), config.levels, strict=True)
        },
    )


def loss(schedule, score, params, key, x):
    """Denoising score matching with EDM's weight, sigma stratified over the schedule."""
    key_sigma, key_noise = jax.random.split(key)
    sigma = schedule(noise.stratified(key_sigma, len(x)))
    weight = objectives.edm(1.0)
    losses = objectives.noise_conditional(partial(score, params), key_noise, x, sigma, weight=weight)
    return losses.mean(), {}


def sample(config: Config, score, event, levels, params, keys) -> jnp.ndarray:
    """Heun's method on the probability flow, over Karras's levels, a sample for each key."""
    sigmas = noise.levels(noise.karras(config.sigma_min, config.sigma_max), levels)
    x = samplers.prior(noise.fold_in(keys, 0), (len(keys), *event), sigmas[0])
    return samplers.sample(noise.fold_in(keys, 1), x, sigmas, partial(score, params), samplers.heun())[0]


if __name__ == "__main__":
    launch.main(build, Config())

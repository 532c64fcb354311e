"""DDPM (Ho et al. 2020): noise prediction on the variance-preserving process, sampled ancestrally.

    python -m experiments.families.ddpm --data digits

A second sampler takes a few deterministic steps of DDIM (Song et al. 2021), which is Euler's method on the
probability flow.
"""

import dataclasses
from typing import Annotated

import jax.numpy as jnp
from msgspec import Meta

from experiments.families import family
from experiments.families import setting as settings
from jaxscore import launch, networks, noise, objectives, samplers
from jaxscore.launch import Experiment
from jaxscore.launch.flags import Levels
from jaxscore.score import from_noise_prediction
from jaxscore.types import right


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(family.Config):
    """Noise prediction at t uniform in t_min..1, sampled with 1,000 ancestral steps or a few DDIM steps."""

    ancestral_steps: Levels = 1000
    """Number of steps of the ancestral sampler."""
    ddim_steps: Levels = 10
    """Number of steps of the deterministic sampler, DDIM."""
    t_min: Annotated[float, Meta(gt=0, lt=1)] = 1e-3
    """Smallest time of the process, between 0 (data) and 1 (noise)."""


def evaluations(config: Config) -> dict[str, int]:
    """Returns the evaluations of the network for a sample, by sampler."""
    return {label: samplers.evaluations(*recipe) for label, recipe in recipes(config).items()}


def recipes(config: Config) -> dict[str, tuple[samplers.Sampler, int]]:
    """Returns each sampler, and the number of its steps."""
    ancestral = samplers.ancestral(), config.ancestral_steps
    return {"ancestral": ancestral, "DDIM": (samplers.euler(), config.ddim_steps)}


def build(config: Config) -> Experiment:
    """Returns the experiment that the flags describe. Raises data.DataError if the data are absent."""
    setting = settings.of(config.data, config.data_dir, config.size)
    network, schedule = family.score_network(config, setting), noise.vp_linear(t_min=config.t_min)

    def score(params, x, sigma):
        scaled = lambda x, sigma: x / right(jnp.sqrt(1 + sigma**2), x)
        predict = lambda x, sigma: network.apply(params, scaled(x, sigma), jnp.log(sigma) / 4)
        return from_noise_prediction(predict)(x, sigma)

    # With the weight sigma^2 the loss is 1/2 |eps(x, sigma) - n|^2 (Ho et al. 2020, equation 14).
    objective = objectives.over_levels(objectives.noise_conditional, schedule)
    return family.experiment(
        "families.ddpm",
        config,
        setting,
        init=networks.init(network, setting.event),
        loss=family.averaged(objective, score),
        samplers={
            label: family.drawn(score, setting, noise.levels(schedule, n), sampler)
            for label, (sampler, n) in recipes(config).items()
        },
        score=score,
    )


if __name__ == "__main__":
    launch.main(build, Config())

"""DDPM (Ho et al. 2020): noise prediction on the variance-preserving process, sampled ancestrally.

    python -m experiments.families.ddpm --data digits

Besides the 1,000 ancestral steps a few deterministic ones, DDIM's (Song et al. 2021): Euler's method on the
probability flow.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from experiments.families import family
from experiments.families import setting as settings
from jaxscore import launch, noise, objectives, samplers
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.flags import require
from jaxscore.score import from_noise_prediction
from jaxscore.types import right


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(family.Config):
    """Noise prediction at t uniform in 0..1, 1,000 ancestral steps, and a few of DDIM."""

    ancestral_steps: int = 1000
    """Steps of the ancestral sampler."""
    ddim_steps: int = 10
    """Steps of the deterministic sampler."""
    t_min: float = 1e-3
    """Where the process is stopped, of 0..1."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("ancestral_steps", "ddim_steps"):
            require(getattr(self, name) >= 2, name, getattr(self, name), "must be at least 2")
        require(0 < self.t_min < 1, "t-min", self.t_min, "must lie between 0 and 1")


def evaluations(config: Config) -> dict[str, int]:
    """Of each sampler."""
    return {"ancestral": config.ancestral_steps, "DDIM": config.ddim_steps}


def build(config: Config) -> Experiment:
    """The experiment that the configuration describes. Raises data.DataError if the data are absent."""
    setting = settings.of(config.data, config.data_dir, config.size)
    network, schedule = family.score_network(config, setting), noise.vp_linear(t_min=config.t_min)

    def score(params, x, sigma):
        predict = lambda x, sigma: network.apply(
            params, x / right(jnp.sqrt(1 + sigma**2), x), jnp.log(sigma) / 4
        )
        return from_noise_prediction(predict)(x, sigma)

    draw = partial(sample, schedule, score, setting.event)
    return family.experiment(
        "families.ddpm",
        config,
        setting,
        init=lambda key: network.init(key, *family.zeros(setting)),
        loss=partial(loss, schedule, score),
        samplers={
            "ancestral": partial(draw, config.ancestral_steps, samplers.ancestral()),
            "DDIM": partial(draw, config.ddim_steps, samplers.euler()),
        },
    )


def loss(schedule, score, params, key, x):
    """1/2 |eps(x, sigma) - n|^2 (Ho et al. 2020, equation 14): the weight sigma^2 on the score's error."""
    key_sigma, key_noise = jax.random.split(key)
    sigma = schedule(noise.stratified(key_sigma, len(x)))
    losses = objectives.noise_conditional(partial(score, params), key_noise, x, sigma)
    return losses.mean(), {}


def sample(schedule, score, event, steps, sampler, params, keys) -> jax.Array:
    """So many steps of the sampler from t = 1 to t_min, and one to 0; a sample for each key."""
    sigmas = noise.levels(schedule, steps)
    x = samplers.prior(noise.fold_in(keys, 0), (len(keys), *event), sigmas[0])
    return samplers.sample(noise.fold_in(keys, 1), x, sigmas, partial(score, params), sampler)[0]


if __name__ == "__main__":
    launch.main(build, Config())

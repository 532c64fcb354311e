"""Diffusion as in EDM (Karras et al. 2022): a preconditioned denoiser, sampled by Heun's method.

    python -m experiments.families.edm --data digits

One training gives a sampler for each number of levels in --levels.
"""

import dataclasses

from experiments.families import family
from experiments.families import setting as settings
from jaxscore import launch, networks, noise, objectives, samplers
from jaxscore.launch import Experiment
from jaxscore.launch.flags import Levels, Positive, require, require_sigmas
from jaxscore.score import preconditioned


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(family.Config):
    """A score network, trained at ln sigma ~ N(mean, std^2); Heun's method with many levels and with few."""

    sigma_mean: float = -0.5
    """Mean of ln sigma in training; the data have standard deviation 1."""
    sigma_std: Positive = 1.3
    """Standard deviation of ln sigma in training."""
    sigma_min: Positive = 0.02
    """Smallest noise level of sampling, the last one before zero."""
    sigma_max: float = 40.0
    """Largest noise level, where sampling starts."""
    levels: tuple[Levels, ...] = (18, 5)
    """Numbers of levels, with a sampler for each; Heun's method with n levels costs 2 n - 1 evaluations."""

    def __post_init__(self):
        super().__post_init__()
        require_sigmas(self.sigma_min, self.sigma_max)
        require(bool(self.levels), "levels", "", "needs at least one number")


def evaluations(config: Config) -> dict[str, int]:
    """Returns the evaluations of the network for a sample, by sampler."""
    return {f"Heun, {n} levels": samplers.evaluations(samplers.heun(), n) for n in config.levels}


def build(config: Config) -> Experiment:
    """Returns the experiment that the flags describe. Raises data.DataError if the data are absent."""
    setting = settings.of(config.data, config.data_dir, config.size)
    network = family.score_network(config, setting)
    score = preconditioned(network.apply, sigma_data=1.0)
    training, grid = (
        noise.lognormal(config.sigma_mean, config.sigma_std),
        noise.karras(config.sigma_min, config.sigma_max),
    )
    objective = objectives.over_levels(objectives.noise_conditional, training, weight=objectives.edm(1.0))
    return family.experiment(
        "families.edm",
        config,
        setting,
        init=networks.init(network, setting.event),
        loss=family.averaged(objective, score),
        samplers={
            f"Heun, {n} levels": family.drawn(score, setting, noise.levels(grid, n), samplers.heun())
            for n in config.levels
        },
        score=score,
    )


if __name__ == "__main__":
    launch.main(build, Config())

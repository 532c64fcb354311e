"""The main job: a noise-conditional score network on real handwritten digits.

    python -m experiments.digits

One residual network learns the score of 1,797 digits of 8x8 pixels at every noise level, and is
sampled in two ways: by Heun's method on the probability flow, and by annealed Langevin dynamics.
Both are held against the real digits: Frechet distance, precision, recall and class frequencies in
the features of a classifier, and the distance to the nearest training digit, which shows that the
samples are no copies.
"""

import dataclasses
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.digits import report
from jaxscore import data, diagnostics, noise, objectives, samplers
from jaxscore.launch.config import Config as BaseConfig
from jaxscore.launch.config import Optimizer
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.flags import require, require_sigmas
from jaxscore.networks import MLP
from jaxscore.score import denoise, preconditioned


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heun:
    """Heun's method on the probability flow, over the levels of Karras et al. 2022 (rho = 7)."""

    levels: int = 9
    """Steps; all but the last cost two evaluations."""
    sigma_min: float = 0.02
    """The last level before zero, in units of centred pixels (-1..1)."""
    sigma_max: float = 20.0
    """The first level."""

    def __post_init__(self):
        require(self.levels >= 2, "heun.levels", self.levels, "must be at least 2")
        require_sigmas(self.sigma_min, self.sigma_max, prefix="heun.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Langevin:
    """Annealed Langevin dynamics over geometric levels sigma_1 > ... > sigma_L (Song & Ermon 2019)."""

    levels: int = 150
    """How many levels, L."""
    steps: int = 2
    """Langevin steps at each level, T."""
    step_size: float = 0.065
    """The step at level l in units of sigma_l^2: epsilon / sigma_L^2."""
    sigma_min: float = 0.1
    """The last level, sigma_L, in units of centred pixels (-1..1)."""
    sigma_max: float = 2.0
    """The first level, sigma_1."""

    def __post_init__(self):
        require(self.levels >= 2, "langevin.levels", self.levels, "must be at least 2")
        require(self.steps >= 1, "langevin.steps", self.steps, "must be at least 1")
        remedy = "must lie between 0 and 2: Langevin dynamics diverges from 2 sigma^2 on"
        require(0 < self.step_size < 2, "langevin.step-size", self.step_size, remedy)
        require_sigmas(self.sigma_min, self.sigma_max, prefix="langevin.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """A noise-conditional score network on small images, sampled by Heun's method and by Langevin."""

    workdir: Path = Path("runs/digits")
    steps: int = 2000
    batch: int = 256
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer(learning_rate=2e-3, decay=0.7))
    ema_decay: float = 0.988
    save_every: int = 500
    samples: int = 1797
    data: str = "digits"
    """`digits`, or `npz:PATH` for a file with `images` and `labels`."""
    grey_values: int = 16
    """Samples are rounded to this many parts of 1 before they are evaluated."""
    classifiers: int = 3
    """How many classifiers, differently seeded, judge the samples; the table shows the means."""
    width: int = 512
    """Width of the network."""
    depth: int = 4
    """Residual blocks of the network."""
    dropout: float = 0.0
    """Share of hidden units dropped in training; against memorisation."""
    sigma_mean: float = -0.5
    """Mean of ln sigma in training; sigma in units of centred pixels (-1..1)."""
    sigma_std: float = 1.3
    """Standard deviation of ln sigma in training."""
    heun: Heun = dataclasses.field(default_factory=Heun)
    langevin: Langevin = dataclasses.field(default_factory=Langevin)

    def __post_init__(self):
        super().__post_init__()
        for name in ("grey_values", "classifiers", "width", "depth"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        require(
            self.samples >= 4, "samples", self.samples, "must be at least 4: recall looks at 3 neighbours"
        )
        require(0 <= self.dropout < 1, "dropout", self.dropout, "must lie in 0..1, below 1")
        require(self.sigma_std > 0, "sigma-std", self.sigma_std, "must be positive")


def build(config: Config) -> Experiment:
    """The experiment that the configuration describes. Raises data.DataError if the data are absent."""
    images, labels = data.load(config.data)
    images = images[:]  # small enough for an array
    event, mean = images.shape[1:], images.mean(axis=0, keepdims=True)
    centred = 2 * (images - mean)
    pixels = lambda x: jnp.clip(x / 2 + mean, 0, 1)
    network = MLP(width=config.width, depth=config.depth, dropout=config.dropout, remat=config.remat)
    sigma_data = float(centred.std())
    if sigma_data == 0:
        raise data.DataError(f"--data {config.data}: all images are the same; there is nothing to learn")
    score = preconditioned(network.apply, sigma_data)
    return Experiment(
        name="digits",
        config=config,
        init=lambda key: network.init(key, jnp.zeros((1, *event)), jnp.zeros(1)),
        loss=partial(loss, config, network, sigma_data),
        batches=lambda first, rows=None: data.batches(
            centred, batch=config.batch, seed=config.seed, start=first, rows=rows
        ),
        samplers={
            "heun": partial(sample_heun, config.heun, score, pixels, event),
            "langevin": partial(sample_langevin, config.langevin, score, pixels, event),
        },
        evaluate=partial(report.evaluate, config, images, labels),
        table=report.table,
        report=partial(report.report, config, score, pixels, images),
    )


def loss(config: Config, network: MLP, sigma_data: float, params, key, x):
    """Denoising score matching over ln sigma ~ N(sigma_mean, sigma_std^2), with EDM's weight."""
    key_sigma, key_noise, key_dropout = jax.random.split(key, 3)
    sigma = noise.lognormal(config.sigma_mean, config.sigma_std)(noise.stratified(key_sigma, len(x)))
    net = partial(network.apply, train=True, rngs={"dropout": key_dropout})
    score = partial(preconditioned(net, sigma_data), params)
    weight = objectives.edm(sigma_data)
    losses = objectives.noise_conditional(score, key_noise, x, sigma, weight=weight)
    return losses.mean(), {"by_sigma": diagnostics.by_sigma(losses, sigma, report.BIN_EDGES)}


def sample_heun(recipe: Heun, score, pixels, event, params, keys) -> dict[str, jax.Array]:
    """Heun's method on the probability flow, a sample for each key."""
    sigmas = noise.levels(noise.karras(recipe.sigma_min, recipe.sigma_max), recipe.levels)
    x = samplers.prior(noise.fold_in(keys, 0), (len(keys), *event), sigmas[0])
    x, _ = samplers.sample(noise.fold_in(keys, 1), x, sigmas, partial(score, params), samplers.heun())
    return {"samples": pixels(x)}


def sample_langevin(recipe: Langevin, score, pixels, event, params, keys) -> dict[str, jax.Array]:
    """Annealed Langevin dynamics with and without the final denoising, a sample for each key."""
    sigmas = noise.levels(noise.geometric(recipe.sigma_min, recipe.sigma_max), recipe.levels)
    step_size = samplers.annealed(recipe.step_size * recipe.sigma_min**2, recipe.sigma_min)
    annealed = samplers.repeat(samplers.langevin(step_size), recipe.steps)
    x = samplers.prior(noise.fold_in(keys, 2), (len(keys), *event), sigmas[0])
    x, _ = samplers.sample(noise.fold_in(keys, 3), x, sigmas, partial(score, params), annealed)
    denoised = denoise(partial(score, params), x, jnp.full(len(x), recipe.sigma_min))
    return {"langevin": pixels(denoised), "langevin_without_denoising": pixels(x)}

"""The lecture's story in one picture: why annealing is needed.

    python -m experiments.toy2d

A network learns the score of two unequal modes far apart by denoising score matching at all noise levels.
Langevin dynamics at one small level never crosses from mode to mode, so its mode weights depend on the
starting points only. Annealed Langevin dynamics, through sigma_1 > ... > sigma_L, gets the weights right. The
exact score is known at every level, and the learned score is compared with it. `--objective` and
`--model energy` select the lecture's other ways to learn the score.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.nn as nn
import jax.numpy as jnp
import numpy as np
from msgspec import Meta

from experiments.common.langevin import StepSize, advise
from jaxscore import data, diagnostics, keys, mixtures, networks, noise, objectives, samplers
from jaxscore.keys import Stream
from jaxscore.launch import Config as BaseConfig
from jaxscore.launch import Experiment, Optimizer, main, plots
from jaxscore.launch.flags import Count, Levels, Positive, require, require_sigmas
from jaxscore.launch.sample import require_finite
from jaxscore.networks import MLP
from jaxscore.score import from_log_density, preconditioned, preconditioned_log_density
from jaxscore.types import Array, Key, ParametricScore, Params, right


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Two unequal modes far apart, an MLP, and Langevin dynamics with and without annealing."""

    workdir: Path = Path("runs/toy2d")
    steps: int = 3000
    batch: int = 1024
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer(learning_rate=3e-3))
    samples: int = 10_000
    sample_batch: int = 10_000
    log_every: int = 200
    save_every: int = 1000
    weight: Annotated[float, Meta(gt=0, lt=1)] = 0.7
    """Weight of the heavier mode."""
    points: Count = 100_000
    """Number of draws from the mixture in the training set."""
    objective: Literal["denoising", "implicit", "sliced", "finite_difference"] = "denoising"
    """Objective of training; denoising predicts the added noise, the others see draws of p_sigma only."""
    model: Literal["field", "energy"] = "field"
    """field: the network is the score; energy: the score is the gradient of an energy."""
    activation: Literal["silu", "softplus", "elu", "relu"] = "silu"
    """Nonlinearity of the network."""
    width: Count = 96
    """Width of the network."""
    depth: Count = 2
    """Number of residual blocks of the network."""
    sigma_min: Positive = 0.15
    """Smallest noise level, sigma_L; plain Langevin dynamics stays at this level."""
    sigma_max: float = 8.0
    """Largest noise level, sigma_1."""
    levels: Levels = 30
    """Number of noise levels, L."""
    langevin_steps: Count = 50
    """Number of Langevin steps at each level, T."""
    step_size: StepSize = 0.15
    """Langevin step at level l in units of sigma_l^2, epsilon / sigma_L^2."""

    def __post_init__(self):
        super().__post_init__()
        require_sigmas(self.sigma_min, self.sigma_max)
        # A trace and an energy take one derivative each, and training cannot see jumps in the last one
        # (diagnostics.kinked).
        derivatives = (self.objective != "denoising") + (self.model == "energy")
        smooth = {"relu": 0, "elu": 1}.get(self.activation, 2)
        blind = f"--objective {self.objective} --model {self.model}"
        remedy = f"has kinks that {blind} cannot see; use silu or softplus"
        require(derivatives <= smooth, "activation", self.activation, remedy)


def build(config: Config) -> Experiment:
    """Returns the experiment that the flags describe."""
    advise(config.step_size, config.sigma_min, config.sigma_max, config.levels, config.langevin_steps)
    mixture = mixtures.two_modes(weight=config.weight)
    source = data.toy(mixture, config.points, seed=config.seed)
    activation = getattr(nn, config.activation)
    network = MLP(width=config.width, depth=config.depth, activation=activation, remat=config.remat)
    score = score_of(config, network, sigma_data=float(source.examples.std()))
    sigmas, moments = sigma_grid(config), samplers.moments(source.examples)
    return Experiment(
        name="toy2d",
        config=config,
        init=networks.init(network, source.event),
        loss=partial(loss, config, score),
        batches=partial(data.batches, source),
        data=source,
        samplers={
            "plain": partial(sample_plain, config, moments, score),
            "annealed": partial(sample_annealed, config, moments, score),
        },
        score=score,
        evaluate=partial(evaluate, config, mixture, score, sigmas[:-1]),
        table=table,
        report=partial(report, mixture, score, source.examples, config.sigma_min),
    )


def score_of(config: Config, network: MLP, sigma_data: float) -> ParametricScore:
    """Returns the score: the preconditioned network, or the gradient of an energy made of the network."""
    if config.model == "field":
        return preconditioned(network.apply, sigma_data)
    log_density = preconditioned_log_density(network.apply, sigma_data)
    return lambda params, x, sigma: from_log_density(partial(log_density, params))(x, sigma)


def loss(config: Config, score: ParametricScore, params: Params, context, batch):
    """Score matching at all noise levels: log sigma is uniform, and every level has the weight sigma^2."""
    # The range is wider than in sampling, because a fit is worst at the ends of its range.
    schedule = noise.geometric(config.sigma_min / 2, config.sigma_max * 1.25)
    weight = None if config.objective == "denoising" else objectives.sigma_squared
    objective = objectives.over_levels(objective_of(config), schedule, weight=weight)
    losses, sigma = objective(partial(score, params), context.key, batch["x"], with_sigma=True)
    return losses.mean(), {"by_sigma": diagnostics.by_sigma(losses, sigma, BIN_EDGES)}


def objective_of(config: Config) -> objectives.Objective:
    """Returns the objective that --objective selects, for clean x; all but denoising add noise to x first."""
    if config.objective == "denoising":
        return objectives.noise_conditional

    def at_noisy_points(score, key, x, sigma):
        key_noise, key_probe = jax.random.split(key)
        noisy = x + right(sigma, x) * noise.normal(key_noise, x.shape)
        objective = {
            "implicit": objectives.implicit,
            "sliced": objectives.sliced_variance_reduced,
            "finite_difference": partial(objectives.finite_difference, step=0.05 * sigma),
        }[config.objective]
        return objective(score, key_probe, noisy, sigma)

    return at_noisy_points


def langevin_step(config: Config) -> samplers.Sampler:
    """Returns the Langevin step of both samplers; at sigma_L it is the same for both."""
    epsilon = config.step_size * config.sigma_min**2
    return samplers.langevin(samplers.annealed(epsilon, config.sigma_min))


def sigma_grid(config: Config) -> Array:
    """Returns the levels sigma_1 > ... > sigma_L > 0."""
    return noise.levels(noise.geometric(config.sigma_min, config.sigma_max), config.levels)


def sample_plain(
    config: Config, moments: samplers.Moments, score: ParametricScore, params: Params, keys: Key
) -> Array:
    """Returns x after as many Langevin steps as the annealed sampler takes, all at sigma_L."""
    # `generate` uses the same key for the starting points, so both samplers start at the same points.
    x = samplers.prior(noise.fold_in(keys, 0), (len(keys), 2), config.sigma_max, moments)
    sigmas = jnp.full(config.levels * config.langevin_steps + 1, config.sigma_min)
    step, keys = langevin_step(config), noise.fold_in(keys, 1)
    return samplers.sample(keys, x, sigmas, partial(score, params), step)[0]


def sample_annealed(
    config: Config, moments: samplers.Moments, score: ParametricScore, params: Params, keys: Key
) -> Array:
    """Returns x after Langevin steps at sigma_1, then at sigma_2, ..., and at last one denoising step."""
    dynamics = samplers.repeat(langevin_step(config), config.langevin_steps)
    annealed = samplers.chain(dynamics, samplers.denoise_last())
    bound = partial(score, params)
    return samplers.generate(keys, (2,), sigma_grid(config), bound, annealed, moments=moments)


BIN_EDGES = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Edges of the noise levels' bins, for the logged loss."""


def evaluate(config: Config, mixture, score, sigmas, params, samples) -> dict:
    """Returns the mode weights of both samplers, and the relative RMS error of the score at every level.

    The error at sigma is sqrt(E|s - s*|^2 / E|s*|^2) over 20,000 draws from p_sigma.
    """
    key = keys.stream(config.seed, Stream.EVALUATE)

    require_finite(samples)

    @jax.jit
    def error(params, sigma):
        x = mixtures.draw(key, mixture, 20_000, sigma=sigma)
        at = jnp.full(len(x), sigma)
        exact = mixtures.score(mixture, x, at)
        return jnp.sqrt(jnp.sum((score(params, x, at) - exact) ** 2) / jnp.sum(exact**2))

    weights = {name: mixtures.mode_weights(mixture, jnp.asarray(x)) for name, x in samples.items()}
    return {
        "mode_weights": {"truth": mixture.weights.tolist()} | {k: w.tolist() for k, w in weights.items()},
        "score_error": [{"sigma": float(s), "relative_rms": float(error(params, s))} for s in sigmas],
    }


def table(metrics: dict) -> list[tuple[str, ...]]:
    """Returns the score error at every fourth noise level, the worst one, and the mode weights."""
    # None stands for a number that is not finite; it is worse than any other.
    number = lambda value: np.nan if value is None else value
    errors = [{name: number(value) for name, value in row.items()} for row in metrics["score_error"]]
    rows = [("", "", "relative RMS score error")]
    rows += [("sigma", f"{row['sigma']:.3g}", f"{row['relative_rms']:.4f}") for row in errors[::4]]
    worst = max(errors, key=lambda row: np.nan_to_num(row["relative_rms"], nan=np.inf))
    rows += [("worst", f"{worst['sigma']:.3g}", f"{worst['relative_rms']:.4f}")]
    rows += [("", "", "weight of the heavier mode")]
    rows += [(name, "", f"{number(weights[0]):.4f}") for name, weights in metrics["mode_weights"].items()]
    return rows


def report(mixture, score, points, sigma_min, params, samples, history, folder: Path) -> list[Path]:
    """Draws data, scores and samples in one figure, and the loss by noise level in another."""
    field_at = 1.0
    grid = np.stack(np.meshgrid(*2 * [np.linspace(-6, 6, 19)]), axis=-1).reshape(-1, 2)
    grid, sigma = jnp.asarray(grid, jnp.float32), jnp.full(19 * 19, field_at)
    learned, exact = score(params, grid, sigma), mixtures.score(mixture, grid, sigma)
    weights = {name: float(mixtures.mode_weights(mixture, jnp.asarray(x))[0]) for name, x in samples.items()}
    truth = float(mixture.weights[0])
    with plots.page(folder / "story.png", columns=4, size=4.0) as (data_axes, field, plain, annealed):
        plots.points(data_axes, points[:3000], f"the data: weights {truth:.2f} and {1 - truth:.2f}")
        plots.fields(
            field, grid, learned, exact, f"learned score (blue) on the exact (orange), σ = {field_at:g}"
        )
        title = f"Langevin at σ = {sigma_min:g} alone: {weights['plain']:.2f} and {1 - weights['plain']:.2f}"
        plots.points(plain, samples["plain"][:3000], title)
        title = f"annealed Langevin: {weights['annealed']:.2f} and {1 - weights['annealed']:.2f}"
        plots.points(annealed, samples["annealed"][:3000], title)
    with plots.page(folder / "loss.png", columns=1, size=7.0, height=4.5) as (axes,):
        plots.loss(axes, history)
    return [folder / "story.png", folder / "loss.png"]


if __name__ == "__main__":
    main(build, Config())

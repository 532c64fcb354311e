"""NCSN and NCSNv2 as published: a score network for all noise levels, and annealed Langevin dynamics.

    python -m experiments.ncsn --preset fashion
    python -m experiments.ncsn --preset cifar10 --data-dir ~/tensorflow_datasets

The score network is RefineNet with dilated residual blocks, trained by denoising score matching at L
levels sigma_1 > ... > sigma_L with the weight sigma^2, and sampled by T Langevin steps at every level
(Song & Ermon 2019, 2020). Presets (ncsn_config.py) are the published recipes, and two for small
machines: `digits`, which adds the five techniques of NCSNv2 one by one, and `fashion`.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.langevin import advise
from experiments.ncsn import ablation, report
from experiments.ncsn.config import PRESETS, Config
from jaxscore import data, diagnostics, importers, launch, networks, noise, objectives, samplers
from jaxscore.launch import Experiment, flags
from jaxscore.launch.compiler import compiler_options
from jaxscore.networks import NCSN, NCSNv2, refinenet
from jaxscore.score import at_levels, denoise, over_sigma
from jaxscore.types import Array, Key, ParametricScore, Params

STAGES = {
    "compact": refinenet.COMPACT,
    "small": refinenet.SMALL,
    "deeper": refinenet.DEEPER,
    "deepest": refinenet.DEEPEST,
}


def build(config: Config) -> Experiment:
    """Returns the experiment that the flags describe.

    Raises data.DataError if the data are absent.
    """
    size = config.epsilon / config.sigma_min**2
    advise(size, config.sigma_min, config.sigma_max, config.levels, config.langevin_steps)
    return assemble(config, *load(config))


def assemble(config: Config, images: data.Examples, labels: np.ndarray) -> Experiment:
    """Returns the experiment on images [n, h, w, c] in 0..1, of classes labels [n]."""
    event = images.shape[1:]
    config = dataclasses.replace(config, shape=event)  # so that config.json has it
    network, score = score_network(config)
    moments = moments_of(images)
    way = jax.jit(partial(annealing, config, score, moments), compiler_options=compiler_options())
    return Experiment(
        name="ncsn",
        config=config,
        init=networks.init(network, event),
        loss=partial(loss, config, score),
        batches=partial(data.batches, {"x": images}),
        data=data.Dataset(images, labels),
        samplers={"langevin": partial(sample, config, score, moments)},
        score=score,
        description=description(config, network),
        evaluate=partial(report.evaluate, config, evaluations(config), images, labels),
        table=report.table,
        report=partial(report.report, config, way, images),
        compiler_options=compiler_options(),
    )


def load(config: Config) -> tuple[data.Examples, np.ndarray]:
    """Returns images and labels; without data, no images if --mode sample needs none.

    Raises DataError if data are needed and absent.
    """
    try:
        images, labels, _ = data.load(config.data, config.data_dir, size=config.size)
    except data.DataError:
        if config.mode != "sample":
            raise
        images, labels = np.zeros((0, *config.shape), np.float32), np.zeros(0, np.int32)
    return images, labels


def moments_of(images: data.Examples) -> samplers.Moments:
    """Returns mean and covariance of at most 10,000 images; zeros if there are no images."""
    n = len(images)
    if n == 0:
        return samplers.Moments(jnp.zeros(images.shape[1:]), jnp.zeros(()))
    return samplers.moments(images[:: -(-n // 10_000)])


def sigma_grid(config: Config) -> Array:
    """Returns the levels sigma_1 > ... > sigma_L > 0."""
    return noise.levels(noise.geometric(config.sigma_min, config.sigma_max), config.levels)


def score_network(config: Config) -> tuple[NCSN | NCSNv2, ParametricScore]:
    """Returns the network, and the score made of it."""
    shared = {
        "channels": config.channels,
        "stages": STAGES[config.stages],
        "dtype": jnp.dtype(config.precision),
        "remat": config.remat,
    }
    if config.network == "ncsn":
        network = NCSN(levels=config.levels, **shared)
        return network, at_levels(network.apply, sigma_grid(config)[:-1])
    network = NCSNv2(**shared)
    return network, over_sigma(network.apply)


def description(config: Config, network: NCSN | NCSNv2) -> importers.Description | None:
    """Returns the description of NCSNv2, for exports; None for NCSN, whose levels are part of its score."""
    if not isinstance(network, NCSNv2):
        return None
    return importers.describe(network, "over_sigma", config.shape, (config.sigma_min, config.sigma_max))


def loss(config: Config, score: ParametricScore, params: Params, context, batch):
    """1/2 |sigma s(x + sigma n, sigma) + n|^2, sigma one of the levels, all equally likely."""
    key, key_flip = jax.random.split(context.key)
    x = data.pixels.unit(batch["x"])
    x = data.pixels.flip(key_flip, x) if config.flip else x
    schedule = noise.uniform_over(sigma_grid(config)[:-1])
    objective = objectives.over_levels(objectives.noise_conditional, schedule)
    losses, sigma = objective(partial(score, params), key, x, with_sigma=True)
    edges = np.geomspace(config.sigma_min, config.sigma_max, 6)[1:-1]
    return losses.mean(), {"by_sigma": diagnostics.by_sigma(losses, sigma, edges)}


def dynamics(config: Config) -> samplers.Sampler:
    """Returns T Langevin steps at a level."""
    step = samplers.langevin(samplers.annealed(config.epsilon, config.sigma_min))
    return samplers.repeat(step, config.langevin_steps)


def evaluations(config: Config) -> dict[str, int]:
    """Returns the evaluations of the score for each array of samples; the denoising at the end is one."""
    steps = samplers.evaluations(dynamics(config), config.levels)
    return {"samples": steps + 1, "without_denoising": steps}


def starting_point(config: Config, keys: Key, moments: samplers.Moments) -> Array:
    """Draws the start of sampling, for each key."""
    event = moments.mean.shape
    if config.start == "normal":
        return samplers.prior(keys, (len(keys), *event), config.sigma_max, moments)
    return jax.vmap(lambda key: jax.random.uniform(key, event))(keys)


def sample(
    config: Config, score: ParametricScore, moments: samplers.Moments, params: Params, keys: Key
) -> dict[str, Array]:
    """Returns images by annealed Langevin dynamics, with and without denoising at the end, by key."""
    x = starting_point(config, noise.fold_in(keys, 0), moments)
    bound = partial(score, params)
    x, _ = samplers.sample(noise.fold_in(keys, 1), x, sigma_grid(config), bound, dynamics(config))
    denoised = denoise(bound, x, jnp.full(len(x), config.sigma_min))
    return {"samples": jnp.clip(denoised, 0, 1), "without_denoising": jnp.clip(x, 0, 1)}


def annealing(
    config: Config, score: ParametricScore, moments: samplers.Moments, params: Params, keys: Key
) -> tuple[Array, samplers.Statistics]:
    """Returns the images at the end of every level, [L, k, h, w, c], and the statistics of every level."""
    x = starting_point(config, noise.fold_in(keys, 0), moments)
    each = samplers.per_level(dynamics(config))
    keep = lambda x, memory: (x, jax.tree.map(jnp.mean, memory))
    bound = partial(score, params)
    return samplers.sample(noise.fold_in(keys, 1), x, sigma_grid(config), bound, each, collect=keep)[1]


def main() -> None:
    """Parse flags on top of the preset's, and run."""
    with launch.one_line_errors():
        preset = flags.choose("preset", PRESETS, Config.preset)
        config = flags.parse(PRESETS[preset])
        with launch.running(config):
            if config.ablate:
                ablation.run(build, config)
            else:
                launch.run(build(config), config.workdir, mode=config.mode, recipe=PRESETS[preset])

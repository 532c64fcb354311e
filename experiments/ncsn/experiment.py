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

from experiments.ncsn import ablation, report
from experiments.ncsn.config import PRESETS, Config
from jaxscore import data, diagnostics, launch, noise, objectives, samplers
from jaxscore.launch import flags
from jaxscore.launch.compiler import compiler_options
from jaxscore.launch.experiment import Experiment
from jaxscore.networks import NCSN, NCSNv2, refinenet
from jaxscore.score import at_levels, denoise, over_sigma

STAGES = {
    "compact": refinenet.COMPACT,
    "small": refinenet.SMALL,
    "deeper": refinenet.DEEPER,
    "deepest": refinenet.DEEPEST,
}


def build(config: Config) -> Experiment:
    """The experiment that the configuration describes.

    Raises data.DataError if the data are absent, FlagError if the network cannot halve their images.
    """
    return assemble(config, *load(config))


def assemble(config: Config, images: data.Examples, labels: np.ndarray) -> Experiment:
    """The experiment on these images [n, h, w, c] in 0..1, of classes labels [n]."""
    event = images.shape[1:]
    config = dataclasses.replace(config, shape=event)  # so that config.json has it
    sigmas = levels(config)
    network, score = score_network(config)
    edges = tuple(np.geomspace(config.sigma_min, config.sigma_max, 6)[1:-1].tolist())
    return Experiment(
        name="ncsn",
        config=config,
        init=lambda key: network.init(key, jnp.zeros((1, *event)), jnp.zeros(1)),
        loss=partial(loss, config, score, sigmas[:-1], edges),
        batches=lambda first, rows=None: data.batches(
            images, batch=config.batch, seed=config.seed, start=first, rows=rows
        ),
        samplers={"langevin": partial(sample, config, score, sigmas, event)},
        evaluate=partial(report.evaluate, config, images, labels),
        table=report.table,
        report=partial(
            report.report,
            config,
            jax.jit(partial(annealing, config, score, sigmas, event), compiler_options=compiler_options()),
            images,
            edges,
        ),
        event=jax.ShapeDtypeStruct(event, np.float32 if isinstance(images, np.ndarray) else np.uint8),
        compiler_options=compiler_options(),
    )


def load(config: Config) -> tuple[data.Examples, np.ndarray]:
    """Images and labels; no images where none are needed and none are there.

    Raises DataError if they are absent though they are needed, FlagError if their sides are odd where
    the network halves them.
    """
    try:
        images, labels = data.load(config.data, config.data_dir, size=config.size)
    except data.DataError:
        if config.mode != "sample":
            raise
        images, labels = np.zeros((0, *config.shape), np.float32), np.zeros(0, np.int32)
    height, width, _ = images.shape[1:]
    part = 2 ** sum(dilation == 1 for _, dilation in STAGES[config.stages][1:])
    remedy = f"divides the sides by {part}, which images of {height}x{width} pixels do not allow"
    flags.require(height % part == width % part == 0, "stages", config.stages, remedy)
    return images, labels


def levels(config: Config) -> jax.Array:
    """sigma_1 > ... > sigma_L > 0."""
    return noise.levels(noise.geometric(config.sigma_min, config.sigma_max), config.levels)


def score_network(config: Config):
    """The Flax module, and score(params, x, sigma) made of it."""
    shared = {
        "channels": config.channels,
        "stages": STAGES[config.stages],
        "dtype": jnp.dtype(config.precision),
        "remat": config.remat,
    }
    if config.network == "ncsn":
        network = NCSN(levels=config.levels, **shared)
        return network, at_levels(network.apply, levels(config)[:-1])
    network = NCSNv2(**shared)
    return network, over_sigma(network.apply)


def loss(config: Config, score, sigmas, edges, params, key, x):
    """1/2 |sigma s(x + sigma n, sigma) + n|^2, sigma one of the levels, all equally likely."""
    key_level, key_noise, key_flip = jax.random.split(key, 3)
    x = data.unit(x)
    # Stratified, so that a batch meets the levels evenly; each example's is uniform among them.
    number = jnp.floor(noise.stratified(key_level, len(x)) * config.levels).astype(int)
    sigma = sigmas[number]
    if config.flip:
        x = data.flip(key_flip, x)
    losses = objectives.noise_conditional(partial(score, params), key_noise, x, sigma)
    return losses.mean(), {"by_sigma": diagnostics.by_sigma(losses, sigma, edges)}


def dynamics(config: Config) -> samplers.Sampler:
    """T Langevin steps at a level."""
    step = samplers.langevin(samplers.annealed(config.epsilon, config.sigma_min))
    return samplers.repeat(step, config.langevin_steps)


def starting_point(config: Config, keys, event) -> jax.Array:
    """Where sampling starts."""
    if config.start == "normal":
        return samplers.prior(keys, (len(keys), *event), config.sigma_max)
    return jax.vmap(lambda key: jax.random.uniform(key, event))(keys)


def sample(config: Config, score, sigmas, event, params, keys) -> dict[str, jax.Array]:
    """Annealed Langevin dynamics, with and without the final denoising, an image for each key."""
    x = starting_point(config, noise.fold_in(keys, 0), event)
    bound = partial(score, params)
    x, _ = samplers.sample(noise.fold_in(keys, 1), x, sigmas, bound, dynamics(config))
    denoised = denoise(bound, x, jnp.full(len(x), config.sigma_min))
    return {"samples": jnp.clip(denoised, 0, 1), "without_denoising": jnp.clip(x, 0, 1)}


def annealing(config: Config, score, sigmas, event, params, keys) -> tuple[jax.Array, samplers.Statistics]:
    """The images at the end of every level, [L, k, h, w, c], and the figures of every level."""
    x = starting_point(config, noise.fold_in(keys, 0), event)
    each = samplers.per_level(dynamics(config))
    keep = lambda x, memory: (x, jax.tree.map(jnp.mean, memory))
    return samplers.sample(noise.fold_in(keys, 1), x, sigmas, partial(score, params), each, collect=keep)[1]


def main() -> None:
    """Parse flags on top of the preset's, and run."""
    with launch.one_line_errors():
        preset = flags.choose("preset", PRESETS, Config.preset)
        config = flags.parse(PRESETS[preset])
        with launch.running(config):
            if config.ablate:
                ablation.run(build, config)
            else:
                launch.run(build(config), config.workdir, mode=config.mode)

"""The denoising diffusion GAN (Xiao et al. 2022): T large denoising steps, each drawn by a conditional GAN.

    python -m experiments.families.ddgan --data digits --denoising-steps 4
    python -m experiments.families.ddgan --preset cifar10 --data-dir ~/tensorflow_datasets

jaxscore/adversarial/denoising.py describes the method. T = 1 is nearly the GAN of gan.py, but its generator
and its discriminator also see the noisy x. The defaults differ from the paper and from the published presets
in three ways that improve short trainings: --late, --shrink, and groups of 16.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.families import adversaries, family
from experiments.families import setting as settings
from jaxscore import data, launch, noise, samplers
from jaxscore.adversarial import denoising
from jaxscore.launch import flags
from jaxscore.launch.config import Optimizer
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.flags import Count, require
from jaxscore.networks import DenseGenerator, UNet


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(adversaries.Config):
    """A generator of x0 from a noisy x and z, and a discriminator of denoising steps."""

    optimizer: Optimizer = dataclasses.field(default_factory=lambda: adversaries.adam(4e-3))
    discriminator_optimizer: Optimizer = dataclasses.field(default_factory=lambda: adversaries.adam(4e-3))
    embedding: int = 32
    group: int = 16
    interval: int = 4
    denoising_steps: Count = 4
    """Number of steps from noise to data, T; 1, 2, 4 or 8 in the paper."""
    preset: str = "digits"
    """Recipe with the defaults of the other flags; an unknown name lists the known ones."""
    shrink: bool = True
    """Show the networks x / (1 + sigma^2); the paper shows them x / sqrt(1 + sigma^2)."""
    late: bool = True
    """Train each step in proportion to the scale of the data in its result; in the paper, equally often."""
    bounded: bool = False
    """Scale pixels to -1..1 and end the generator with tanh, as in the paper."""
    flip: bool = False
    """Mirror each training image with probability 1/2."""
    mapping: int = 4
    """Number of layers of a U-Net's mapping network, from z to the modulation."""


def evaluations(config: Config) -> dict[str, int]:
    """Returns the evaluations of the network for a sample, by sampler."""
    return {f"T = {config.denoising_steps}": config.denoising_steps}


def build(config: Config) -> Experiment:
    """Returns the experiment that the flags describe. Raises data.DataError if the data are absent."""
    setting = settings.of(config.data, config.data_dir, config.size)
    if config.bounded:
        require(setting.grey_values is not None, "bounded", "", f"--data {config.data} has no pixels")
        setting = setting._replace(mean=np.full_like(setting.mean, 0.5), std=0.5)
    sigmas = denoising.levels(config.denoising_steps)
    weights = denoising.share_of_data(sigmas) if config.late else None
    generate, discriminate, init = networks(config, setting, sigmas)
    of = lambda params: (
        partial(discriminate, params["discriminator"]),
        partial(generate, params["generator"]),
    )

    def random_pair(key, x):
        x = data.pixels.flip(jax.random.fold_in(key, 2), x) if config.flip else x
        step = denoising.step(noise.stratified(jax.random.fold_in(key, 3), len(x)), sigmas, weights)
        return denoising.pair(jax.random.fold_in(key, 0), x, *step)

    def discriminator_loss(params, context, batch):
        pair = random_pair(context.key, batch["x"])
        key = jax.random.fold_in(context.key, 1)
        losses = denoising.discriminator_loss(*of(params), key, pair, latent=config.latent)
        penalty = lambda: denoising.gradient_penalty(of(params)[0], pair)
        return adversaries.penalised(config, context.step, losses, penalty), {}

    def generator_loss(params, context, batch):
        pair = random_pair(context.key, batch["x"])
        key = jax.random.fold_in(context.key, 1)
        return denoising.generator_loss(*of(params), key, pair, latent=config.latent).mean(), {}

    def sample(params, keys):
        sampler = denoising.sampler(latent=config.latent)
        bound = partial(generate, params)
        return samplers.generate(keys, setting.event, sigmas, bound, sampler, moments=setting.moments)

    return family.experiment(
        "families.ddgan",
        config,
        setting,
        init=init,
        samplers=dict.fromkeys(evaluations(config), sample),
        **adversaries.players(config, discriminator_loss, generator_loss),
    )


def networks(config: Config, setting: settings.Setting, sigmas: jax.Array):
    """Returns generate(params, x, sigma, z), discriminate(params, x_next, x, sigma) and init(key) -> params.

    `init` returns the parameters of both networks. Both networks get x in the scale that --shrink selects;
    the discriminator gets x_next in the variance-preserving scale.
    """
    condition = denoising.shrunk if config.shrink else denoising.variance_preserving
    discriminator = adversaries.discriminator(config, setting)
    if setting.dense:
        generator = DenseGenerator(setting.event, config.width, config.depth, config.embedding)
        inputs = lambda x, c_noise, z: (z, x, c_noise)
    else:
        size = dataclasses.asdict(config.convolutions)
        generator = UNet(**size, mapping=config.mapping, remat=config.remat)
        inputs = lambda x, c_noise, z: (x, c_noise, None, z)
    bound = jnp.tanh if config.bounded else lambda x: x

    def generate(params, x, sigma, z):
        x, c_noise = condition(x, sigma), jnp.log(sigma) / 4
        return bound(generator.apply(params, *inputs(x, c_noise, z)))

    def discriminate(params, x_next, x, sigma):
        # x_next is scaled by its own sigma, the level that follows the level of x.
        number = jnp.argmin(jnp.abs(sigmas[None, :-1] - sigma[:, None]), axis=1)
        pair = (denoising.variance_preserving(x_next, sigmas[number + 1]), condition(x, sigma))
        return discriminator.apply(params, jnp.concatenate(pair, axis=-1), jnp.log(sigma) / 4)

    def init(key):
        (x, c_noise), z, keys = family.zeros(setting, 4), jnp.zeros((4, config.latent)), jax.random.split(key)
        both = jnp.concatenate([x, x], axis=-1)
        return {
            "generator": generator.init(keys[0], *inputs(x, c_noise, z)),
            "discriminator": discriminator.init(keys[1], both, c_noise),
        }

    return generate, discriminate, init


if __name__ == "__main__":
    from experiments.families.ddgan_presets import PRESETS

    with launch.one_line_errors():
        chosen = PRESETS[flags.choose("preset", PRESETS, "digits")]
    launch.main(build, chosen)

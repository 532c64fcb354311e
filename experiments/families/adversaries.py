"""Common parts of the GAN and the denoising diffusion GAN: flags, discriminator, optimisers, R1 penalty."""

import dataclasses
from functools import partial
from typing import Any

import jax.numpy as jnp

from experiments.families import family
from experiments.families.setting import Setting
from jaxscore import adversarial
from jaxscore.launch import Optimizer, Player
from jaxscore.launch.flags import Count, NonNegative
from jaxscore.networks import DenseDiscriminator, Discriminator
from jaxscore.updates import Loss


def adam(rate: float) -> Optimizer:
    """Returns the optimiser of Xiao et al. 2022, Adam(0.5, 0.9)."""
    return Optimizer(learning_rate=rate, warm_up=0, decay=0.7, b1=0.5, b2=0.9)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(family.Config):
    """Flags of both families."""

    width: int = 192
    depth: int = 3
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: adam(2e-3))
    discriminator_optimizer: Optimizer = dataclasses.field(default_factory=lambda: adam(2e-3))
    discriminator_width: Count = 192
    """Width of a dense discriminator."""
    discriminator_depth: Count = 3
    """Number of layers of a dense discriminator."""
    embedding: Count = 128
    """Width of the embedding of the noise level in dense networks."""
    discriminator_channels: Count = 32
    """Number of channels of a convolutional discriminator at full resolution."""
    discriminator_multipliers: tuple[Count, ...] = (1, 2, 4)
    """Multiples of these channels, one for each level; each level has half the side of the previous one."""
    group: Count = 4
    """Number of examples in a group; the discriminator sees how much the examples of a group differ."""
    latent: Count = 64
    """Dimension of the latent z ~ N(0, I)."""
    penalty: NonNegative = 0.5
    """Weight gamma of the R1 penalty at the steps that compute it; 0 for no penalty."""
    interval: Count = 1
    """Number of steps from one computation of the R1 penalty to the next."""
    ema_decay: float = 0.998


def discriminator(config: Config, setting: Setting) -> DenseDiscriminator | Discriminator:
    """Returns the network. Its input is an example, or two examples concatenated along the last axis."""
    if setting.dense:
        return DenseDiscriminator(
            config.discriminator_width,
            config.discriminator_depth,
            config.group,
            config.embedding,
            config.octaves,
        )
    multipliers = config.discriminator_multipliers
    return Discriminator(config.discriminator_channels, multipliers, config.group, remat=config.remat)


def players(config: Config, discriminator_loss: Loss, generator_loss: Loss) -> dict[str, Any]:
    """Returns two fields of the Experiment: `players`, and `averaged`, which selects the generator.

    The discriminator takes its turn first.
    """
    discriminator = Player(discriminator_loss, config.discriminator_optimizer)
    generator = Player(generator_loss, config.optimizer)
    return {
        "players": {"discriminator": discriminator, "generator": generator},
        "averaged": lambda params: params["generator"],
    }


def penalised(config: Config, step, losses: jnp.ndarray, penalty) -> jnp.ndarray:
    """Returns the mean of the losses, plus the mean of gamma R1 at every `interval`-th step."""
    if config.penalty == 0:
        return losses.mean()
    lazily = partial(adversarial.lazy, step, config.interval)
    return losses.mean() + config.penalty * lazily(penalty).mean()

"""A generative adversarial network: the non-saturating loss and R1 (Mescheder et al. 2018).

    python -m experiments.families.gan --data digits

A sample costs one evaluation of the network. Nothing in the loss makes the generator cover all modes.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from experiments.families import adversaries, family
from experiments.families import setting as settings
from jaxscore import adversarial, launch, noise
from jaxscore.launch.experiment import Experiment
from jaxscore.networks import Decoder, DenseGenerator


def evaluations(config) -> dict[str, int]:
    """Returns the evaluations of the network for a sample, by sampler."""
    return {"one pass": 1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(adversaries.Config):
    """A generator from z to an example, and a discriminator."""


def build(config: Config) -> Experiment:
    """Returns the experiment that the flags describe. Raises data.DataError if the data are absent."""
    setting = settings.of(config.data, config.data_dir, config.size)
    generator, discriminator = generator_of(config, setting), adversaries.discriminator(config, setting)

    def init(key):
        keys = jax.random.split(key)
        z = jnp.zeros((4, config.latent))
        return {
            "generator": generator.init(keys[0], z),
            "discriminator": discriminator.init(keys[1], family.zeros(setting, 4)[0]),
        }

    fake = lambda params, keys: generator.apply(params, noise.normal(keys, (len(keys), config.latent)))
    logits = lambda params, x: discriminator.apply(params["discriminator"], x)
    return family.experiment(
        "families.gan",
        config,
        setting,
        init=init,
        samplers={"one pass": fake},
        **adversaries.players(
            config, partial(discriminator_loss, config, fake, logits), partial(generator_loss, fake, logits)
        ),
    )


def generator_of(config: Config, setting: settings.Setting) -> DenseGenerator | Decoder:
    """Returns the network from z to an example."""
    if setting.dense:
        return DenseGenerator(setting.event, config.width, config.depth)
    return Decoder(setting.event, config.convolutions.channels, config.convolutions.multipliers)


def discriminator_loss(config, fake, logits, params, context, batch):
    """softplus(-D(x)) + softplus(D(G(z))) + gamma R1."""
    x = batch["x"]
    drawn = jax.lax.stop_gradient(fake(params["generator"], noise.row_keys(context.key, len(x))))
    losses = adversarial.discriminator_loss(logits(params, x), logits(params, drawn))
    penalty = lambda: adversarial.gradient_penalty(partial(logits, params), x)
    return adversaries.penalised(config, context.step, losses, penalty), {}


def generator_loss(fake, logits, params, context, batch):
    """softplus(-D(G(z)))."""
    drawn = fake(params["generator"], noise.row_keys(context.key, len(batch["x"])))
    return adversarial.generator_loss(logits(params, drawn)).mean(), {}


if __name__ == "__main__":
    launch.main(build, Config())

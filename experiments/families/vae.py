"""A variational autoencoder (Kingma & Welling 2014), with convolutions where the data are images.

    python -m experiments.families.vae --data digits

The decoder gives each pixel the distribution N(mean(z), s^2), cut into bins of a grey value. The bound on the
likelihood is therefore a bound on bits; for points it is a bound on the density. The sampler `mean` returns
the decoder's mean, and the sampler `drawn` adds the decoder's noise.
"""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.families import family, likelihood
from experiments.families import setting as settings
from jaxscore import launch, noise
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.flags import Count
from jaxscore.networks import Decoder, DenseGenerator, Encoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(family.Config):
    """An encoder, a decoder, and a learned noise level for each pixel."""

    depth: int = 3
    latent: Count = 16
    """Dimension of the code z."""
    probes: Count = 64
    """Number of draws of z for the bits of the held-out set."""
    log_scale: float = 0.0
    """Initial log standard deviation of the decoder's noise; if it is large, the decoder may ignore z."""
    floor: float = -4.0
    """Smallest log standard deviation of the decoder's noise; the data have variance 1."""


def evaluations(config: Config) -> dict[str, int]:
    """Returns the evaluations of the network for a sample, by sampler."""
    return {"mean": 1, "drawn": 1}


def build(config: Config) -> Experiment:
    """Returns the experiment that the flags describe. Raises data.DataError if the data are absent."""
    setting = settings.of(config.data, config.data_dir, config.size)
    encoder, decoder = networks(config, setting)

    def init(key):
        keys, x = jax.random.split(key), family.zeros(setting)[0]
        z = jnp.zeros((1, config.latent))
        log_scale = jnp.full(setting.event, config.log_scale)
        return {
            "encoder": encoder.init(keys[0], x),
            "decoder": decoder.init(keys[1], z),
            "log_scale": log_scale,
        }

    def bound(params, keys, x):
        """log p(x | z) - KL(q(z | x) || p(z)) in nats, [b], with z ~ q: an unbiased estimate of the bound."""
        mean, log_std = jnp.split(encoder.apply(params["encoder"], x), 2, axis=1)
        n = noise.normal(keys, mean.shape)
        code = mean + jnp.exp(log_std) * n
        divergence = jnp.sum(jnp.exp(2 * log_std) + mean**2 - 1 - 2 * log_std, axis=1) / 2
        log_scale = jnp.maximum(params["log_scale"], config.floor)
        decoded = decoder.apply(params["decoder"], code)
        return likelihood.log_normal(setting, x, decoded, log_scale) - divergence

    def loss(params, context, batch):
        x = batch["x"]
        return -bound(params, noise.row_keys(context.key, len(x)), x).mean(), {}

    def sample(spread, params, keys):
        z = noise.normal(noise.fold_in(keys, 0), (len(keys), config.latent))
        mean = decoder.apply(params["decoder"], z)
        scale = jnp.exp(jnp.maximum(params["log_scale"], config.floor))[None]
        return mean + spread * scale * noise.normal(noise.fold_in(keys, 1), mean.shape)

    return family.experiment(
        "families.vae",
        config,
        setting,
        init=init,
        loss=loss,
        samplers={"mean": partial(sample, 0.0), "drawn": partial(sample, 1.0)},
        bits=lambda params: likelihood.bits_held_out(
            setting, bound, params, draws=config.probes, seed=config.seed
        ),
    )


def networks(config: Config, setting: settings.Setting) -> tuple[nn.Module, nn.Module]:
    """Returns the encoder and the decoder: dense for points, convolutional for images."""
    if len(setting.event) == 1:
        dense = lambda outputs: DenseGenerator(outputs, config.width, config.depth)
        return dense((2 * config.latent,)), dense(setting.event)
    channels, multipliers = config.convolutions.channels, config.convolutions.multipliers
    encoder = Encoder(2 * config.latent, channels, multipliers)
    return encoder, Decoder(setting.event, channels, multipliers)


if __name__ == "__main__":
    launch.main(build, Config())

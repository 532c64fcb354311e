"""A variational autoencoder (Kingma & Welling 2014), with convolutions where the data are images.

    python -m experiments.families.vae --data digits

Its decoder says how likely each grey value of a pixel is, N(mean(z), s^2) cut into bins, so that the bound is
one of bits; of points it is the density. `mean` samples are the decoder's mean, `drawn` ones add its noise.
"""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch
from experiments.config import Experiment
from experiments.families import family
from experiments.families import setting as settings
from experiments.flags import require
from jaxscore import noise
from jaxscore.networks import Decoder, DenseGenerator, Encoder

LOG_TWO_PI = float(np.log(2 * np.pi))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(family.Config):
    """An encoder, a decoder, and a noise level of each pixel that is learned."""

    latent: int = 16
    """Numbers in the code z."""
    probes: int = 64
    """Draws of z for the bound on the data held out."""
    floor: float = -4.0
    """The least log standard deviation of the decoder's noise; the data have variance 1."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("latent", "probes"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")


def evaluations(config: Config) -> dict[str, int]:
    """Of each sampler."""
    return {"mean": 1, "drawn": 1}


def build(config: Config) -> Experiment:
    """The experiment that the configuration describes. Raises data.DataError if the data are absent."""
    setting = settings.of(config.data, config.data_dir, config.size)
    encoder, decoder = networks(config, setting)

    def init(key):
        keys, x = jax.random.split(key), family.zeros(setting)[0]
        z = jnp.zeros((1, config.latent))
        log_scale = jnp.zeros(setting.event)
        return {
            "encoder": encoder.init(keys[0], x),
            "decoder": decoder.init(keys[1], z),
            "log_scale": log_scale,
        }

    def bound(params, keys, x):
        """log p(x | z) - log q(z | x) + log p(z) in nats, [b], z a draw of q, a key for each."""
        mean, log_std = jnp.split(encoder.apply(params["encoder"], x), 2, axis=1)
        n = noise.normal(keys, mean.shape)
        code = mean + jnp.exp(log_std) * n
        divergence = jnp.sum(jnp.exp(2 * log_std) + mean**2 - 1 - 2 * log_std, axis=1) / 2
        log_scale = jnp.maximum(params["log_scale"], config.floor)
        likelihood = log_likelihood(setting, x, decoder.apply(params["decoder"], code), log_scale)
        return likelihood - divergence

    def loss(params, key, x):
        return -bound(params, noise.row_keys(key, len(x)), x).mean(), {}

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
        bits=partial(bits, config, setting, bound),
    )


def networks(config: Config, setting: settings.Setting) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder."""
    if len(setting.event) == 1:
        outputs = (2 * config.latent,)
        return (DenseGenerator(outputs, config.width), DenseGenerator(setting.event, config.width))
    channels, multipliers = config.convolutions.channels, config.convolutions.multipliers
    encoder = Encoder(2 * config.latent, channels, multipliers)
    return encoder, Decoder(setting.event, channels, multipliers)


def log_likelihood(setting: settings.Setting, x, mean, log_scale) -> jax.Array:
    """log p(x) of N(mean, scale^2) in nats, [b]: of points its density, of pixels the bin's probability.

    The first and the last grey value have all that is beyond them.
    """
    event, scale = tuple(range(1, x.ndim)), jnp.exp(log_scale)[None]
    if setting.grey_values is None:
        z = (x - mean) / scale
        return -jnp.sum(z**2 / 2 + log_scale[None] + LOG_TWO_PI / 2, axis=event)
    half = 0.5 / setting.grey_values / setting.std
    pixels = x * setting.std + setting.mean
    edge = 0.25 / setting.grey_values
    upper = jnp.where(pixels > 1 - edge, jnp.inf, (x + half - mean) / scale)
    lower = jnp.where(pixels < edge, -jnp.inf, (x - half - mean) / scale)
    return jnp.sum(log_probability(lower, upper), axis=event)


def log_probability(lower: jax.Array, upper: jax.Array) -> jax.Array:
    """log(Phi(upper) - Phi(lower)), lower < upper, either infinite; accurate in both tails."""
    # Where both are positive the same interval's mirror image is used, whose tail has all its digits.
    swap = lower > 0
    low, high = jnp.where(swap, -upper, lower), jnp.where(swap, -lower, upper)
    finite = lambda a, other: jnp.where(jnp.isinf(a), other, a)
    top = jnp.where(jnp.isinf(high), 0.0, jax.scipy.stats.norm.logcdf(finite(high, 0.0)))
    bottom = jax.scipy.stats.norm.logcdf(finite(low, 0.0))
    gap = jnp.maximum(top - finite(jnp.where(jnp.isinf(low), 0.0, bottom), 0.0), 1e-6)
    part = jnp.log(-jnp.expm1(-gap))
    return top + jnp.where(jnp.isinf(low), 0.0, part)


def bits(config: Config, setting: settings.Setting, bound, params) -> float:
    """An upper bound on the bits per dimension of what was held out: the bound's mean over draws of z."""
    x = setting.scaled(jnp.asarray(setting.held_out))
    keys = noise.row_keys(jax.random.key(config.seed), len(x))
    one = jax.jit(lambda number: bound(params, noise.fold_in(keys, number), x).mean())
    nats = np.mean([float(one(number)) for number in range(config.probes)])
    return per_dimension(setting, nats)


def per_dimension(setting: settings.Setting, nats: float) -> float:
    """Bits per dimension of a mean log likelihood; of points that of the density of unscaled ones."""
    size = int(np.prod(setting.event))
    volume = size * np.log(setting.std) if setting.grey_values is None else 0.0
    return float((volume - nats) / (size * np.log(2)))


if __name__ == "__main__":
    launch.main(build, Config())

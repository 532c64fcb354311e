"""Networks, as Flax Linen modules; their `apply` is the `NetFn` that `jaxscore.score` takes.

    network = MLP(width=128, depth=4, classes=10)
    params = init(network, (8, 8, 1), condition=labels)(key)        # a pytree
    score = preconditioned(network.apply, sigma_data)               # score(params, x, sigma, condition)
    noisy = functools.partial(network.apply, train=True, rngs={"dropout": key})

Parameters are float32. `dtype` is the type in which a network computes (bfloat16 on TPU and GPU); the
result is float32 again before it is combined with anything. Score functions, and with them everything
outside of this folder, see only apply(params, x[b, ...], c_noise[b], condition) -> like x, so that a
module of any other library plugs in as well. UNet and MLP also take a `latent`, as a generator does;
discriminators return logits [b], and Inception returns features [b, 2048] of images with pixels in 0..255.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxscore.networks.adm import ADM as ADM
from jaxscore.networks.autoencoder import Decoder as Decoder
from jaxscore.networks.autoencoder import Encoder as Encoder
from jaxscore.networks.ddpm import DDPM as DDPM
from jaxscore.networks.discriminator import DenseDiscriminator as DenseDiscriminator
from jaxscore.networks.discriminator import Discriminator as Discriminator
from jaxscore.networks.dit import DiT as DiT
from jaxscore.networks.edm2 import EDM2 as EDM2
from jaxscore.networks.generator import DenseGenerator as DenseGenerator
from jaxscore.networks.inception import Inception as Inception
from jaxscore.networks.mlp import MLP as MLP
from jaxscore.networks.ncsn import NCSN as NCSN
from jaxscore.networks.ncsn import NCSNv2 as NCSNv2
from jaxscore.networks.unet import UNet as UNet
from jaxscore.types import Condition, Key, Params


def init(network, event: tuple[int, ...], condition: Condition = None) -> Callable[[Key], Params]:
    """Returns init(key) -> params of a network that takes x[b, *event], c_noise[b] and the condition.

    `condition` is any example of it, with the rows first; only its shape and type count.
    """
    row = lambda leaf: jnp.zeros((1, *leaf.shape[1:]), leaf.dtype)
    given = () if condition is None else (jax.tree.map(row, condition),)
    return lambda key: network.init(key, jnp.zeros((1, *event)), jnp.zeros(1), *given)

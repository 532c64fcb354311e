"""Networks, as Flax Linen modules; their `apply` is the `NetFn` that `jaxscore.score` takes.

    network = MLP(width=128, depth=4)
    params = network.init(key, x, c_noise)                          # a pytree
    score = preconditioned(network.apply, sigma_data)               # score(params, x, sigma)
    noisy = functools.partial(network.apply, train=True, rngs={"dropout": key})

Parameters are float32. `dtype` is what a network computes in (bfloat16 on TPU and GPU); the result
is float32 again before it is combined with anything. UNet and MLP also take a latent, as a generator does:
`apply(params, x, c_noise, latent)`; discriminators return logits [b]. Score functions, and so everything
outside this folder, see only `(params, x[b, ...], c_noise[b]) -> [b, ...]`, so a module of any other
library plugs in as well.
"""

from jaxscore.networks.autoencoder import Decoder as Decoder
from jaxscore.networks.autoencoder import Encoder as Encoder
from jaxscore.networks.discriminator import DenseDiscriminator as DenseDiscriminator
from jaxscore.networks.discriminator import Discriminator as Discriminator
from jaxscore.networks.generator import DenseGenerator as DenseGenerator
from jaxscore.networks.mlp import MLP as MLP
from jaxscore.networks.ncsn import NCSN as NCSN
from jaxscore.networks.ncsn import NCSNv2 as NCSNv2
from jaxscore.networks.unet import UNet as UNet

"""NCSN and NCSNv2, the noise-conditional score networks of Song & Ermon (2019, 2020).

Both are the RefineNet of `jaxscore.networks.refinenet`. NCSN has parameters for each noise level in every
norm, and returns the score. NCSNv2 does not use the noise level and returns sigma times the score;
`score.over_sigma` divides by sigma.

>>> import jax, jax.numpy as jnp
>>> x, c_noise = jnp.zeros((2, 8, 8, 1)), jnp.zeros(2)
>>> network = NCSNv2(channels=8)
>>> jax.eval_shape(network.init_with_output, jax.random.key(0), x, c_noise)[0].shape
(2, 8, 8, 1)
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float, Num

from jaxscore.networks.refinenet import SMALL, RefineNet, Stages
from jaxscore.types import Array, DTypeLike


class NCSN(nn.Module):
    """score(x[b, h, w, c], level[b]) -> [b, h, w, c], float32; `level` is the number of the noise level.

    The output is the score, unscaled. As published, it has 10 levels, and 128 channels for CIFAR-10 and
    CelebA or 64 for MNIST. Numbers of levels run from 0 for the largest sigma to levels - 1. A float is
    rounded, and a number out of range is clipped.

    Args:
        channels: channels of the first stage.
        levels: number of noise levels.
        stages: stages of the RefineNet.
        centred_input: if False, as published, x are images in 0..1 plus noise and the network maps them to 2
            x - 1; if True, x is used as it is.
        activation: activation function.
        dtype: type of the computation.
        remat: store only the inputs of the blocks for the gradient.
    """

    channels: int = 128
    levels: int = 10
    stages: Stages = SMALL
    centred_input: bool = False
    activation: Callable[[Array], Array] = nn.elu
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], level: Num[Array, "b"]) -> Float[Array, "b h w c"]:
        shared = (self.activation, self.dtype, self.remat)
        network = RefineNet(self.channels, self.stages, self.levels, *shared, name="refinenet")
        number = jnp.round(level).astype(jnp.int32)
        return network(x if self.centred_input else 2 * x - 1, number)


class NCSNv2(nn.Module):
    """sigma score(x[b, h, w, c]) -> [b, h, w, c], float32, for every noise level.

    The noise level, the second argument, is ignored: divide by sigma with `score.over_sigma` (technique 3 of
    Song & Ermon 2020). As published, it has 128 channels.

    Args:
        channels: channels of the first stage.
        stages: refinenet.SMALL (28 to 64 pixels), DEEPER (96 to 128), DEEPEST (256), or other stages.
        centred_input: if False, as published, x are images in 0..1 plus noise and the network maps them to 2
            x - 1; if True, x is used as it is.
        activation: activation function.
        dtype: type of the computation.
        remat: store only the inputs of the blocks for the gradient.
    """

    channels: int = 128
    stages: Stages = SMALL
    centred_input: bool = False
    activation: Callable[[Array], Array] = nn.elu
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], c_noise: Float[Array, "b"]) -> Float[Array, "b h w c"]:
        del c_noise  # unconditional
        shared = (self.activation, self.dtype, self.remat)
        network = RefineNet(self.channels, self.stages, None, *shared, name="refinenet")
        return network(x if self.centred_input else 2 * x - 1)

"""NCSN and NCSNv2, the noise-conditional score networks of Song & Ermon (2019, 2020).

Both are the RefineNet of `jaxscore.networks.refinenet`. NCSN looks up the number of the noise level
in every norm and returns the score itself; NCSNv2 does not look at the noise level at all and
returns sigma times the score, which `score.over_sigma` divides.

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
    """score(x[b, h, w, c], level[b]) -> [b, h, w, c], float32; `level` the number of the noise level.

    Numbers run from 0 for the largest sigma to levels - 1; a float is rounded, and one out of range
    is clipped. The output is the score, unscaled. As published: 128 channels and 10 levels for
    CIFAR-10 and CelebA, 64 channels for MNIST. With centred_input=False, as published, x are images
    in 0..1 (plus noise), which the network maps to 2 x - 1; with True it takes x as it is.
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
    """sigma score(x[b, h, w, c]) -> [b, h, w, c], float32, whatever the noise level.

    `stages` are refinenet.SMALL (28 to 64 pixels), DEEPER (96 to 128) or DEEPEST (256), or any of
    one's own. As published: 128 channels. The noise level, the second argument, is ignored: divide
    by sigma with `score.over_sigma` (technique 3). With centred_input=False, as published, x are
    images in 0..1 (plus noise), which the network maps to 2 x - 1; with True it takes x as it is. `remat`
    keeps the blocks' inputs alone for the gradient.
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

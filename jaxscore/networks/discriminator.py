"""Discriminators: from examples, and optionally a noise level, to logits of being data.

>>> import jax, jax.numpy as jnp
>>> network, x, c_noise = Discriminator(channels=8), jnp.zeros((4, 8, 8, 2)), jnp.zeros(4)
>>> params = jax.eval_shape(network.init, jax.random.key(0), x, c_noise)  # the shapes alone
>>> jax.eval_shape(network.apply, params, x, c_noise).shape
(4,)

Both networks see how much the examples of a group differ (`layers.MinibatchDeviation`). This exposes a
generator whose samples are all alike, and makes a row's logit depend on its neighbours. Neither network has
norms, because batch statistics would couple the examples further. LeakyReLU(0.2) is the only kink, so a
gradient penalty can be differentiated.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore.networks.layers import MinibatchDeviation, NoiseEmbedding, rematerialised, waves
from jaxscore.types import Array, DTypeLike

activation = functools.partial(nn.leaky_relu, negative_slope=0.2)


class Discriminator(nn.Module):
    """Images [b, height, width, channels], c_noise[b] or None -> logits[b], float32.

    The first convolution makes `channels * multipliers[0]` channels. Each further multiplier adds a residual
    block that halves the sides. The end is the deviation over groups of `group`, a convolution, the sum over
    all pixels, and a dense layer.

    This is the discriminator of a denoising diffusion GAN (Xiao et al. 2022, appendix), with average pooling
    in place of its filter. x_next and x are concatenated along the channels.

    Raises:
        ValueError: if a side is not divisible by 2^(len(multipliers) - 1).
    """

    channels: int = 32
    multipliers: tuple[int, ...] = (1, 2, 2)
    group: int = 4
    embedding: int = 128
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], c_noise: Float[Array, "b"] | None = None
    ) -> Float[Array, "b"]:
        factor = 2 ** (len(self.multipliers) - 1)
        if x.shape[1] % factor or x.shape[2] % factor:
            raise ValueError(f"image sides {x.shape[1:3]} must be divisible by {factor}")
        embedding = _embedding(self, c_noise)
        first, *rest = (self.channels * multiplier for multiplier in self.multipliers)
        block = rematerialised(HalvingBlock, self.remat)
        h = nn.Conv(first, (3, 3), dtype=self.dtype)(x.astype(self.dtype))
        for number, width in enumerate(rest):
            h = block(width, self.dtype, name=f"HalvingBlock_{number}")(h, embedding)
        h = MinibatchDeviation(self.group)(h)
        h = activation(nn.Conv(h.shape[-1] - 1, (3, 3), dtype=self.dtype)(activation(h)))
        return nn.Dense(1, dtype=self.dtype)(h.sum(axis=(1, 2)))[:, 0].astype(jnp.float32)


class HalvingBlock(nn.Module):
    """Two 3x3 convolutions with the noise level added in between, then halved sides; keeps the variance."""

    channels: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, h: Float[Array, "b h w c"], embedding: Float[Array, "b e"] | None) -> Array:
        y = nn.Conv(self.channels, (3, 3), dtype=self.dtype)(activation(h))
        if embedding is not None:
            y = y + nn.Dense(self.channels, dtype=self.dtype)(embedding)[:, None, None]
        y = nn.Conv(self.channels, (3, 3), dtype=self.dtype)(activation(y))
        y, h = (nn.avg_pool(a, (2, 2), (2, 2)) for a in (y, h))
        h = nn.Dense(self.channels, use_bias=False, dtype=self.dtype)(h)
        return (y + h) * 2**-0.5


class DenseDiscriminator(nn.Module):
    """x[b, ...], flattened, and c_noise[b] or None -> logits[b], float32, for points and for small images.

    There are `depth` dense layers of `width`. The noise level is added to the output of each layer, and the
    deviation over groups of `group` to the input of the last one. The input passes through `layers.waves`
    with `octaves`.
    """

    width: int = 128
    depth: int = 3
    group: int = 4
    embedding: int = 128
    octaves: int = 0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *event"], c_noise: Float[Array, "b"] | None = None
    ) -> Float[Array, "b"]:
        embedding = _embedding(self, c_noise)
        h = waves(x.reshape(x.shape[0], -1), self.octaves).astype(self.dtype)
        for number in range(self.depth):
            if number == self.depth - 1:
                h = MinibatchDeviation(self.group)(h)
            h = nn.Dense(self.width, dtype=self.dtype)(h)
            if embedding is not None:
                h = h + nn.Dense(self.width, use_bias=False, dtype=self.dtype)(embedding)
            h = activation(h)
        return nn.Dense(1, dtype=self.dtype)(h)[:, 0].astype(jnp.float32)


def _embedding(network, c_noise: Array | None) -> Array | None:
    """Embedding of the noise level for the layers of a network; None without a noise level."""
    if c_noise is None:
        return None
    return NoiseEmbedding(network.embedding, dtype=network.dtype)(c_noise)

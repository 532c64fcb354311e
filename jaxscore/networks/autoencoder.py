"""Convolutional networks from images to a code and back: the two halves of an autoencoder.

>>> import jax, jax.numpy as jnp
>>> encoder, decoder = Encoder(outputs=6, channels=8), Decoder(event=(8, 8, 3), channels=8)
>>> x, z = jnp.zeros((4, 8, 8, 3)), jnp.zeros((4, 6))
>>> jax.eval_shape(encoder.init_with_output, jax.random.key(0), x)[0].shape
(4, 6)
>>> jax.eval_shape(decoder.init_with_output, jax.random.key(1), z)[0].shape
(4, 8, 8, 3)
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore.types import Array, DTypeLike


class Encoder(nn.Module):
    """Images [b, height, width, channels] -> [b, outputs], float32.

    The first convolution makes `channels * multipliers[0]` channels. Each further multiplier adds a
    convolution that halves the sides, rounded up. SiLU follows each convolution, and a dense layer over all
    pixels ends it.
    """

    outputs: int
    channels: int = 32
    multipliers: tuple[int, ...] = (1, 2, 2)
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b outputs"]:
        h = x.astype(self.dtype)
        for level, multiplier in enumerate(self.multipliers):
            stride = 2 if level else 1
            h = nn.Conv(self.channels * multiplier, (3, 3), (stride, stride), dtype=self.dtype)(h)
            h = nn.silu(h)
        return nn.Dense(self.outputs, dtype=self.dtype)(h.reshape(len(h), -1)).astype(jnp.float32)


class Decoder(nn.Module):
    """Code z[b, n] -> images [b, *event], event = (height, width, channels), float32.

    It mirrors `Encoder`. A dense layer makes the smallest image. Each multiplier, from the last to the first,
    adds a convolution with SiLU; between them the sides are doubled by repeating pixels. A last convolution
    makes the image. If the sides are no multiples of the factor, the image is cut at the end.
    """

    event: tuple[int, int, int]
    channels: int = 32
    multipliers: tuple[int, ...] = (1, 2, 2)
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, z: Float[Array, "b n"]) -> Float[Array, "b *event"]:
        height, width, channels = self.event
        factor = 2 ** (len(self.multipliers) - 1)
        sides = -(-height // factor), -(-width // factor)
        wide = self.channels * self.multipliers[-1]
        h = nn.silu(nn.Dense(sides[0] * sides[1] * wide, dtype=self.dtype)(z.astype(self.dtype)))
        h = h.reshape(len(z), *sides, wide)
        for level, multiplier in reversed(list(enumerate(self.multipliers))):
            h = nn.silu(nn.Conv(self.channels * multiplier, (3, 3), dtype=self.dtype)(h))
            if level:
                h = jnp.repeat(jnp.repeat(h, 2, axis=1), 2, axis=2)
        h = nn.Conv(channels, (3, 3), dtype=self.dtype)(h)
        return h[:, :height, :width].astype(jnp.float32)

"""Generators: from a latent to an example; in a denoising diffusion GAN, from a noisy example too.

>>> import jax, jax.numpy as jnp
>>> network, z = DenseGenerator(event=(8, 8, 1), width=16), jnp.zeros((4, 10))
>>> params = jax.eval_shape(network.init, jax.random.key(0), z)  # the shapes alone
>>> jax.eval_shape(network.apply, params, z).shape
(4, 8, 8, 1)

Convolutional generators are `UNet` with a latent, and `autoencoder.Decoder`.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore.networks.layers import NoiseEmbedding, waves
from jaxscore.types import Array, DTypeLike

activation = functools.partial(nn.leaky_relu, negative_slope=0.2)


class DenseGenerator(nn.Module):
    """latent z[b, n], optionally with x[b, *event] and c_noise[b] -> [b, *event], float32.

    There are `depth` dense layers of `width` with LeakyReLU(0.2), for points and small images. The input is z
    and x side by side, and the noise level is added to the output of each layer. x passes through
    `layers.waves` with `octaves`. The output layer does not start at zero as in a score network: its outputs
    must depend on z from the beginning, or the network learns to ignore z.
    """

    event: tuple[int, ...]
    width: int = 128
    depth: int = 3
    embedding: int = 128
    octaves: int = 0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        latent: Float[Array, "b n"],
        x: Float[Array, "b *event"] | None = None,
        c_noise: Float[Array, "b"] | None = None,
    ) -> Float[Array, "b *event"]:
        h = (
            latent
            if x is None
            else jnp.concatenate([latent, waves(x.reshape(len(x), -1), self.octaves)], axis=1)
        )
        h = h.astype(self.dtype)
        if c_noise is not None:
            embedding = NoiseEmbedding(self.embedding, dtype=self.dtype)(c_noise)
        for _ in range(self.depth):
            h = nn.Dense(self.width, dtype=self.dtype)(h)
            if c_noise is not None:
                h = h + nn.Dense(self.width, use_bias=False, dtype=self.dtype)(embedding)
            h = activation(h)
        size = functools.reduce(int.__mul__, self.event, 1)
        out = nn.Dense(size, dtype=self.dtype)(h)
        return out.astype(jnp.float32).reshape(len(latent), *self.event)

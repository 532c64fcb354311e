"""Generators: from a latent to an example, and, in a denoising diffusion GAN, from a noisy example too.

>>> import jax, jax.numpy as jnp
>>> network, z = DenseGenerator(event=(8, 8, 1), width=16), jnp.zeros((4, 10))
>>> params = network.init(jax.random.key(0), z)
>>> network.apply(params, z).shape
(4, 8, 8, 1)

For generators that are convolutional see `UNet` with a latent, and `autoencoder.Decoder`.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore.networks.layers import NoiseEmbedding, waves
from jaxscore.types import Array, DTypeLike

activation = functools.partial(nn.leaky_relu, negative_slope=0.2)


class DenseGenerator(nn.Module):
    """latent z[b, n], and x[b, *event] at c_noise[b] if there is one -> [b, *event], float32.

    `depth` dense layers of `width` with LeakyReLU(0.2), z beside x in the input, the noise level added to
    what each layer makes. Unlike a score network's, its output layer does not start at zero: what it makes
    must differ with z from the beginning, or it learns to ignore it. x is seen through `layers.waves`
    of so many `octaves`. For points and images of few pixels.
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

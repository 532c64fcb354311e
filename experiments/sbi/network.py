"""The network: residual blocks on the parameters, modulated by the noise level and by the observation."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore.networks.layers import ConditionEmbedding, NoiseEmbedding, rematerialised
from jaxscore.networks.mlp import ResidualBlock
from jaxscore.types import Array


class Network(nn.Module):
    """z[b, d] -> [b, d], given the noise level c_noise[b] and the encoded observation [b, m].

    The first layer sees z and the observation side by side. Two layers make an embedding of the observation,
    which modulates all blocks together with the embedding of the noise level. `networks.MLP` has one layer
    for the embedding, and its first layer does not see the condition. The output layer starts at zero, so
    that `score.preconditioned` starts at the score of a Gaussian.

    Args:
        width, depth: of the residual blocks.
        embedding: width of the two embeddings.
        dropout: fraction of hidden units dropped if train=True, which then needs rngs={"dropout": key}.
        remat: keep only the inputs of the blocks for the gradient.
    """

    width: int = 192
    depth: int = 4
    embedding: int = 64
    dropout: float = 0.0
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "b d"],
        c_noise: Float[Array, "b"],
        condition: Float[Array, "b m"],
        *,
        train: bool = False,
    ) -> Float[Array, "b d"]:
        given = ConditionEmbedding(self.embedding)(condition)
        given = nn.silu(nn.Dense(self.embedding)(given))
        embedding = jnp.concatenate([NoiseEmbedding(self.embedding)(c_noise), given], axis=1)
        h = nn.Dense(self.width)(jnp.concatenate([z, condition], axis=1))
        block = rematerialised(ResidualBlock, self.remat, static=(3,))
        for number in range(self.depth):
            h = block(self.dropout, name=f"ResidualBlock_{number}")(h, embedding, train)
        h = nn.LayerNorm()(h)
        return nn.Dense(z.shape[1], kernel_init=nn.initializers.zeros)(h)

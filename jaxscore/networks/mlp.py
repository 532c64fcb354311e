"""A residual multilayer perceptron, for vectors and for small images flattened."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore.networks.layers import (
    ConditionEmbedding,
    Mapping,
    Modulation,
    NoiseEmbedding,
    rematerialised,
    waves,
)
from jaxscore.types import Array, DTypeLike


class MLP(nn.Module):
    """x[b, ...] -> the same shape, float32, by residual blocks of two dense layers on x flattened.

    The blocks are modulated by the noise level, by the `condition` and by the `latent` z[b, n], as far as
    they are given. The output layer starts at zero, so that `score.preconditioned` starts at the score of
    a Gaussian. Objectives with a trace need a smooth `activation`.

    Args:
        width, depth: of the residual blocks.
        embedding: the width of the embeddings of noise level, condition and latent.
        classes: the number of classes, if the condition is class numbers (`layers.ConditionEmbedding`).
        dropout: the fraction of hidden units dropped if train=True, which then needs rngs={"dropout": key}.
        mapping: the number of layers of the `layers.Mapping` of a latent.
        octaves: how many octaves of Fourier features of x the first layer sees (`layers.waves`).
        dtype: the type in which the network computes.
        remat: keep only the inputs of the blocks for the gradient.
    """

    width: int = 128
    depth: int = 4
    embedding: int = 128
    classes: int = 0
    dropout: float = 0.0
    activation: Callable[[Array], Array] = nn.silu
    mapping: int = 4
    octaves: int = 0
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b *event"],
        c_noise: Float[Array, "b"],
        condition: Array | None = None,
        latent: Float[Array, "b n"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "b *event"]:
        flat = x.reshape(x.shape[0], -1)
        embedding = NoiseEmbedding(self.embedding, dtype=self.dtype)(c_noise)
        if condition is not None:
            given = ConditionEmbedding(self.embedding, self.classes, self.dtype)(condition)
            embedding = jnp.concatenate([embedding, given], axis=1)
        if latent is not None:
            style = Mapping(self.embedding, self.mapping, self.dtype)(latent)
            embedding = jnp.concatenate([embedding, style], axis=1)
        h = nn.Dense(self.width, dtype=self.dtype)(waves(flat, self.octaves))
        block = rematerialised(ResidualBlock, self.remat, static=(3,))
        for number in range(self.depth):
            name = f"ResidualBlock_{number}"
            h = block(self.dropout, self.activation, self.dtype, name=name)(h, embedding, train)
        h = nn.LayerNorm(dtype=self.dtype)(h)
        out = nn.Dense(flat.shape[1], dtype=self.dtype, kernel_init=nn.initializers.zeros)(h)
        return out.astype(jnp.float32).reshape(x.shape)


class ResidualBlock(nn.Module):
    """h + W2 dropout(act(W1 modulate(norm(h)))), with W2 zero at first (Peebles & Xie 2023, adaLN)."""

    dropout: float = 0.0
    activation: Callable[[Array], Array] = nn.silu
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, h: Float[Array, "b c"], embedding: Float[Array, "b e"], train: bool
    ) -> Float[Array, "b c"]:
        y = nn.LayerNorm(use_bias=False, use_scale=False, dtype=self.dtype)(h)
        y = Modulation(self.dtype)(y, embedding)
        y = self.activation(nn.Dense(h.shape[1], dtype=self.dtype)(y))
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        return h + nn.Dense(h.shape[1], dtype=self.dtype, kernel_init=nn.initializers.zeros)(y)

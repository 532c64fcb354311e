"""DiT (Peebles & Xie 2023, arXiv:2212.09748): a transformer on patches, modulated by adaLN-Zero.

    DiT.named("xl", patch=2, classes=1000)             # sizes s, b, l, xl of the paper

>>> import jax
>>> network = DiT(width=32, depth=2, heads=2, patch=2)
>>> x, c_noise = jnp.ones((2, 4, 6, 3)), jnp.zeros(2)
>>> params = jax.eval_shape(network.init, jax.random.key(0), x, c_noise)  # the shapes alone
>>> jax.eval_shape(network.apply, params, x, c_noise).shape
(2, 4, 6, 3)
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxscore.networks.blocks import XAVIER, Dense, Features, attention
from jaxscore.networks.layers import ConditionEmbedding, Waves, conditions, rematerialised
from jaxscore.networks.resampling import folded, padded, unfolded
from jaxscore.types import Array, DTypeLike

SIZES = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16), "xl": (1152, 28, 16)}
"""Width, depth and heads of the published sizes (table 1 of the paper)."""


class DiT(nn.Module):
    """x[b, ..., c] -> the same shape, float32; x is a sequence, an image, a volume or a field of any rank.

    Patches of `patch` positions along each axis are the tokens. Sides that `patch` does not divide are padded
    inside. The modulations and the output layer start at zero.

    Args:
        width: of a token.
        depth: the number of blocks.
        heads: attention heads.
        patch: the side of a patch.
        classes: the number of classes, if the condition has class numbers.
        outputs: the channels of the output; those of x by default. Published weights have twice as many.
        own_embeddings: each block embeds noise level and class by itself, as the weights of diffusers do.
        dtype: the type in which the network computes.
        flash: attention by the kernels of cuDNN, which need an NVIDIA GPU and dtype bfloat16 or float16.
        remat: keep only the inputs of the blocks for the gradient.
    """

    width: int = 384
    depth: int = 12
    heads: int = 6
    patch: int = 2
    classes: int = 0
    outputs: int | None = None
    own_embeddings: bool = False
    dtype: DTypeLike = jnp.float32
    flash: bool = False
    remat: bool = False

    @classmethod
    def named(cls, size: str, **fields: Any) -> "DiT":
        """Returns the network of a published size; ValueError for other names."""
        if size not in SIZES:
            raise ValueError(f"size {size!r} is not known; use {', '.join(SIZES)}")
        width, depth, heads = SIZES[size]
        return cls(width=width, depth=depth, heads=heads, **fields)

    @nn.compact
    def __call__(
        self, x: Features, c_noise: Float[Array, "b"], condition: Any = None, *, train: bool = False
    ) -> Float[Array, "b *space d"]:
        event, outputs = x.shape[1:], self.outputs or x.shape[-1]
        given = conditions(condition, x, self.classes)
        x = x if given.image is None else jnp.concatenate([x, given.image], axis=-1)
        x = padded(x, self.patch).astype(self.dtype)
        sides = [side // self.patch for side in x.shape[1:-1]]
        h = Dense(self.width, dtype=self.dtype, kernel_init=XAVIER, name="in")(folded(x, self.patch))
        h = h.reshape(len(h), -1, self.width)
        h = h + jnp.asarray(positions(sides, self.width), self.dtype)[None]

        embedded = lambda name: Embedding(self.width, self.classes, self.dtype, name=name)(
            c_noise, given.label
        )
        kind = rematerialised(TransformerBlock, self.remat)
        embeddings = [embedded(f"embedding{i}") for i in range(self.depth if self.own_embeddings else 1)]
        for i in range(self.depth):
            h = kind(self.heads, self.dtype, self.flash, name=f"block{i}")(h, embeddings[i % len(embeddings)])

        shift, scale = modulations(embeddings[0], 2, self.width, self.dtype, "out_modulation")
        size = self.patch ** len(sides) * outputs
        zero = nn.initializers.zeros
        h = Dense(size, dtype=self.dtype, kernel_init=zero, name="out")(modulated(h, shift, scale))
        out = unfolded(h.reshape(len(h), *sides, size).astype(jnp.float32), self.patch)
        return out[(slice(None), *map(slice, event[:-1]))]


class Embedding(nn.Module):
    """c_noise[b] and label -> silu of the sum of their embeddings, [b, width]."""

    width: int
    classes: int = 0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, c_noise: Float[Array, "b"], label: Array | None) -> Float[Array, "b width"]:
        waves = jnp.roll(Waves(256, name="waves")(c_noise), 128, axis=1)
        h = nn.silu(nn.Dense(self.width, dtype=self.dtype, name="layer0")(waves))
        h = nn.Dense(self.width, dtype=self.dtype, name="layer1")(h)
        if label is not None:
            h = h + ConditionEmbedding(self.width, self.classes, self.dtype, name="label")(label)
        return nn.silu(h)


class TransformerBlock(nn.Module):
    """h[b, n, width], embedding[b, width] -> like h: attention, then two layers on each token.

        h <- h + gate attention(norm(h) (1 + scale) + shift)
        h <- h + gate mlp(norm(h) (1 + scale) + shift)

    The six modulations are linear in the embedding and start at zero, so the block starts as the identity.
    """

    heads: int
    dtype: DTypeLike = jnp.float32
    flash: bool = False

    @nn.compact
    def __call__(self, h: Float[Array, "b n width"], embedding: Float[Array, "b width"]) -> Array:
        width = h.shape[-1]
        dense = lambda features, name: Dense(features, dtype=self.dtype, kernel_init=XAVIER, name=name)
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = modulations(
            embedding, 6, width, self.dtype, "modulation"
        )
        qkv = dense(3 * width, "qkv")(modulated(h, shift, scale))
        y = attention(*jnp.split(qkv, 3, axis=-1), self.heads, self.flash)
        h = h + gate * dense(width, "proj")(y)
        # The gradient recomputes gelu from its input, which takes less time than storing what it needs.
        y = jax.checkpoint(nn.gelu)(dense(4 * width, "mlp0")(modulated(h, shift_mlp, scale_mlp)))
        return h + gate_mlp * dense(width, "mlp1")(y)


def modulations(embedding: Array, n: int, width: int, dtype: DTypeLike, name: str) -> list[Array]:
    """Returns n arrays [b, 1, width], linear in the embedding and zero at first."""
    layer = nn.Dense(n * width, dtype=dtype, kernel_init=nn.initializers.zeros, name=name)
    return jnp.split(layer(embedding)[:, None], n, axis=-1)


def modulated(h: Array, shift: Array, scale: Array) -> Array:
    """Returns norm(h) (1 + scale) + shift, with a layer norm that has no parameters."""
    norm = nn.LayerNorm(use_bias=False, use_scale=False, dtype=h.dtype, parent=None)
    return norm.apply({}, h) * (1 + scale) + shift


def positions(sides: list[int], width: int) -> np.ndarray:
    """Returns [prod(sides), width]: sines and cosines of the position along each axis, the last axis first.

    The frequencies fall geometrically from 1 to about 1e-4 (Vaswani et al. 2017). Numbers that are left over
    are zero, if 2 rank does not divide the width.
    """
    n = width // (2 * len(sides))
    grid = np.indices(sides).reshape(len(sides), -1)
    phases = [axis[:, None] * 1e-4 ** (np.arange(n) / n) for axis in grid[::-1]]
    found = np.concatenate([wave(phase) for phase in phases for wave in (np.sin, np.cos)], axis=1)
    return np.pad(found, ((0, 0), (0, width - found.shape[1]))).astype(np.float32)

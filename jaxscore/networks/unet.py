"""A small U-Net: residual blocks with group norm, attention where asked, skip connections."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore.networks.layers import ConditionEmbedding, Mapping, Modulation, NoiseEmbedding, rematerialised
from jaxscore.networks.resampling import padded
from jaxscore.types import Array, DTypeLike


class UNet(nn.Module):
    """Images [b, height, width, channels] -> the same shape, float32.

    Level i (of len(multipliers)) has `channels * multipliers[i]` channels and half the side of the level
    above. It has `blocks` residual blocks on the way down and one more on the way up. The output layer
    starts at zero. A form of the DDPM network (Ho et al. 2020, appendix B).

    The blocks are modulated by the noise level, by the `condition` and by the `latent` z[b, n], as far as
    they are given. A condition of images [b, height, width, k] is appended to the channels of the input
    instead. With a latent the network is the generator of a denoising diffusion GAN (Xiao et al. 2022,
    appendix).

    Args:
        channels: of the first level.
        multipliers: of the channels, for each level.
        blocks: the number of residual blocks of each level.
        attention: the levels whose blocks attend over all their pixels.
        classes: the number of classes, if the condition is class numbers (`layers.ConditionEmbedding`).
        dropout: the fraction of hidden units dropped if train=True, which then needs rngs={"dropout": key}.
        mapping: the number of layers of the `layers.Mapping` of a latent.
        dtype: the type in which the network computes.
        remat: keep only the inputs of the blocks for the gradient.

    Inside the network, sides that 2^(len(multipliers) - 1) does not divide are padded (`resampling.padded`).
    """

    channels: int = 32
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 1
    attention: tuple[int, ...] = ()
    classes: int = 0
    dropout: float = 0.0
    mapping: int = 4
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        c_noise: Float[Array, "b"],
        condition: Array | None = None,
        latent: Float[Array, "b n"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "b h w c"]:
        embedding, wide = NoiseEmbedding(4 * self.channels, dtype=self.dtype)(c_noise), x
        if condition is not None and condition.ndim == 4:
            wide = jnp.concatenate([x, condition], axis=-1)
        elif condition is not None:
            given = ConditionEmbedding(4 * self.channels, self.classes, self.dtype)(condition)
            embedding = jnp.concatenate([embedding, given], axis=1)
        if latent is not None:
            style = Mapping(4 * self.channels, self.mapping, self.dtype)(latent)
            embedding = jnp.concatenate([embedding, style], axis=1)

        residual, numbers = rematerialised(ResidualBlock, self.remat, static=(3,)), itertools.count()

        def block(h: Array, level: int) -> Array:
            width, name = self.channels * self.multipliers[level], f"ResidualBlock_{next(numbers)}"
            h = residual(width, self.dropout, self.dtype, name=name)(h, embedding, train)
            return SelfAttention(self.dtype)(h) if level in self.attention else h

        wide = padded(wide, 2 ** (len(self.multipliers) - 1))
        h = _conv(self.channels, self.dtype)(wide.astype(self.dtype))
        skips = [h]
        for level in range(len(self.multipliers)):
            if level:
                h = nn.avg_pool(h, (2, 2), (2, 2))
                skips.append(h)
            for _ in range(self.blocks):
                h = block(h, level)
                skips.append(h)
        for level in reversed(range(len(self.multipliers))):
            for _ in range(self.blocks + 1):
                h = block(jnp.concatenate([h, skips.pop()], axis=-1), level)
            if level:
                h = jnp.repeat(jnp.repeat(h, 2, axis=1), 2, axis=2)
        h = nn.silu(_norm(h, self.dtype)(h))
        h = _conv(x.shape[-1], self.dtype, zero=True)(h)
        return h[:, : x.shape[1], : x.shape[2]].astype(jnp.float32)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with group norm and SiLU, modulated by the noise level in between."""

    channels: int
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, h: Float[Array, "b h w c"], embedding: Float[Array, "b e"], train: bool
    ) -> Float[Array, "b h w d"]:
        y = _conv(self.channels, self.dtype)(nn.silu(_norm(h, self.dtype)(h)))
        y = nn.silu(Modulation(self.dtype)(_norm(y, self.dtype)(y), embedding))
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        y = _conv(self.channels, self.dtype, zero=True)(y)
        if h.shape[-1] != self.channels:
            h = nn.Dense(self.channels, dtype=self.dtype)(h)
        return h + y


class SelfAttention(nn.Module):
    """h + W softmax(q k' / sqrt(c)) v over all pixels, one head, W zero at first."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, h: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, height, width, c = h.shape
        y = _norm(h, self.dtype)(h).reshape(b, height * width, c)
        q, k, v = jnp.split(nn.Dense(3 * c, dtype=self.dtype)(y), 3, axis=-1)
        one_head = lambda a: a[:, :, None, :]
        y = jax.nn.dot_product_attention(one_head(q), one_head(k), one_head(v))[:, :, 0]
        y = nn.Dense(c, dtype=self.dtype, kernel_init=nn.initializers.zeros)(y)
        return h + y.reshape(h.shape)


def _conv(channels: int, dtype: DTypeLike, *, zero: bool = False) -> nn.Conv:
    init = nn.initializers.zeros if zero else nn.linear.default_kernel_init
    return nn.Conv(channels, (3, 3), dtype=dtype, kernel_init=init)


def _norm(h: Array, dtype: DTypeLike) -> nn.GroupNorm:
    """Group norm with as many groups as divide the channels, up to 32, of 4 channels or more."""
    channels = h.shape[-1]
    groups = [g for g in range(1, 33) if channels % g == 0 and channels >= 4 * g]
    return nn.GroupNorm(max(groups, default=1), dtype=dtype)

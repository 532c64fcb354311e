"""The residual block of DDPM++, NCSN++, ADM and DDPM, with attention, on sequences, images and volumes.

>>> import jax
>>> block = Block(8, resample=-1)
>>> h, embedding = jnp.ones((2, 6, 4, 4)), jnp.ones((2, 16))
>>> params = block.init(jax.random.key(0), h, embedding, False)
>>> block.apply(params, h, embedding, False).shape
(2, 3, 2, 8)
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Float

from jaxscore.networks.resampling import doubled, halved
from jaxscore.types import Array, DTypeLike

Features = Float[Array, "b *space c"]

XAVIER = nn.initializers.xavier_uniform()
KAIMING = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Block(nn.Module):
    """h[b, ..., c], embedding[b, e] -> [b, ..., channels]: two convolutions, then attention if it has heads.

        y = conv(silu(norm(h)))                                  resampled before the convolution
        y = conv(dropout(silu(norm(y + affine(embedding)))))     or norm(y) (1 + scale) + shift, if adaptive
        h = scale (skip(h) + y)
        h = scale (h + W attention(norm(h)))

    Args:
        channels: of the output.
        heads: attention heads; 0 for no attention.
        dropout: the fraction of hidden units dropped.
        resample: -1 halves the sides, 1 doubles them.
        filter: the taps of the resampling filter along each axis.
        project: whether a block that resamples has a convolution 1x1 on its skip branch.
        adaptive: whether the embedding scales and shifts after the norm, or is added before the norm.
        scale: of the sum of both branches; 1/sqrt(2) keeps the variance.
        epsilon: of the group norms.
        groups: of the group norms; by default up to 32 groups, of 4 channels or more.
        kernel_init: initialiser of the kernels.
        dtype: the type in which the block computes.
        flash: attention by the kernels of cuDNN.

    Source: Song et al. 2021b, appendix H; Dhariwal & Nichol 2021; Karras et al. 2022, figure 9.
    """

    channels: int
    heads: int = 0
    dropout: float = 0.0
    resample: int = 0
    filter: tuple[int, ...] = (1, 1)
    project: bool = True
    adaptive: bool = False
    scale: float = 0.5**0.5
    epsilon: float = 1e-6
    groups: int | None = None
    kernel_init: nn.initializers.Initializer = XAVIER
    dtype: DTypeLike = jnp.float32
    flash: bool = False

    @nn.compact
    def __call__(
        self, h: Features, embedding: Float[Array, "b e"], train: bool
    ) -> Float[Array, "b *space_out d"]:
        rank = h.ndim - 2
        norm = lambda name: GroupNorm(self.groups, self.epsilon, self.dtype, activate=True, name=name)
        dense = lambda n, name: Dense(n, dtype=self.dtype, kernel_init=self.kernel_init, name=name)
        conv = lambda name, init=self.kernel_init: convolution(self.channels, rank, self.dtype, init, name)
        moved = {0: lambda h: h, 1: lambda h: doubled(h, self.filter), -1: lambda h: halved(h, self.filter)}
        moved = moved[self.resample]

        y = conv("conv0")(moved(norm("norm0")(h)))
        given = dense(self.channels * (1 + self.adaptive), "affine")(embedding)
        if self.adaptive:
            y = norm("norm1")(y, *jnp.split(given, 2, axis=-1))
        else:
            y = norm("norm1")(y + between(given, y))
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        y = conv("conv1", nn.initializers.zeros)(y)
        h = moved(h)
        if h.shape[-1] != self.channels or (self.resample and self.project):
            h = dense(self.channels, "skip")(h)
        h = self.scale * (h + y)
        if self.heads:
            attended = Attention(
                self.heads,
                self.epsilon,
                self.groups,
                self.kernel_init,
                self.dtype,
                self.flash,
                name="attention",
            )(h)
            h = self.scale * (h + attended)
        return h


class Attention(nn.Module):
    """W softmax(q' k / sqrt(c / heads)) v over all positions of norm(h), for each head; W starts at 0."""

    heads: int = 1
    epsilon: float = 1e-6
    groups: int | None = None
    kernel_init: nn.initializers.Initializer = XAVIER
    dtype: DTypeLike = jnp.float32
    flash: bool = False

    @nn.compact
    def __call__(self, h: Features) -> Features:
        b, c = len(h), h.shape[-1]
        y = GroupNorm(self.groups, self.epsilon, self.dtype, name="norm")(h).reshape(b, -1, c)
        qkv = Dense(3 * c, dtype=self.dtype, kernel_init=self.kernel_init, name="qkv")(y)
        y = attention(*jnp.split(qkv, 3, axis=-1), self.heads, self.flash)
        zero = nn.initializers.zeros
        return Dense(c, dtype=self.dtype, kernel_init=zero, name="proj")(y).reshape(h.shape)


class Dense(nn.Module):
    """x[..., c] -> x kernel + bias, [..., features], computed as a product of two matrices.

    Flax's dense layer keeps all axes of x. For its kernel's gradient, XLA then transposes a copy of x, which
    takes up to three times as long on a CPU.
    """

    features: int
    use_bias: bool = True
    dtype: DTypeLike = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Float[Array, "*rows c"]) -> Float[Array, "*rows d"]:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        y = x.reshape(-1, x.shape[-1]).astype(self.dtype) @ kernel.astype(self.dtype)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            y = y + bias.astype(self.dtype)[None]
        return y.reshape(*x.shape[:-1], self.features)


def attention(
    q: Float[Array, "b n c"], k: Array, v: Array, heads: int, flash: bool = False
) -> Float[Array, "b n c"]:
    """Returns softmax(q' k / sqrt(c / heads)) v over the n positions, for each of the heads side by side.

    With `flash` cuDNN computes it without the n x n matrix (Dao et al. 2022), on NVIDIA GPUs, in bfloat16 or
    float16, for heads of up to 128 channels in multiples of 8. JAX raises an error for anything else.
    """
    split = lambda x: x.reshape(*x.shape[:2], heads, -1)
    implementation = "cudnn" if flash else "xla"
    y = jax.nn.dot_product_attention(split(q), split(k), split(v), implementation=implementation)
    return y.reshape(q.shape)


def heads(channels: int, size: int) -> int:
    """Returns the number of heads of `size` channels, or of more, if that does not divide the channels."""
    return max(n for n in range(1, max(channels // size, 1) + 1) if channels % n == 0)


class GroupNorm(nn.Module):
    """h[b, ..., c] -> scale' (h - mean) / sqrt(var + epsilon) + shift', over groups and the event.

    scale' = weight (1 + scale) and shift' = bias (1 + scale) + shift, where scale and shift [b, c] are given.
    By default there are up to 32 groups, of 4 channels or more. Sums are float32. With `activate`, silu of
    the result is returned. Flax's norm is the same function, without the modulation. On a CPU it takes twice
    as long, because it splits the last axis.

    The gradient is computed from h and the statistics alone. A training step of DDPM++ then needs a fifth
    less memory than one that keeps each intermediate result.

    Source: Wu & He 2018.
    """

    groups: int | None = None
    epsilon: float = 1e-6
    dtype: DTypeLike = jnp.float32
    activate: bool = False

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "b *space c"],
        scale: Float[Array, "b c"] | None = None,
        shift: Float[Array, "b c"] | None = None,
    ) -> Float[Array, "b *space c"]:
        c = h.shape[-1]
        weight = jnp.asarray(self.param("scale", nn.initializers.ones, (c,)))[None]
        bias = jnp.asarray(self.param("bias", nn.initializers.zeros, (c,)))[None]
        if scale is not None:
            weight, bias = weight * (1 + scale), bias * (1 + scale) + shift
        kept = jax.checkpoint_policies.save_only_these_names("statistics")
        return jax.checkpoint(self.normalised, policy=kept)(h, weight, bias)

    def normalised(self, h: Array, weight: Array, bias: Array) -> Array:
        """Returns weight (h - mean) / sqrt(var + epsilon) + bias, or its silu; weight and bias are [., c]."""
        b, c = len(h), h.shape[-1]
        fitting = [g for g in range(1, 33) if c % g == 0 and c >= 4 * g]
        groups = self.groups or max(fitting, default=1)
        x, space = h.astype(jnp.float32), tuple(range(1, h.ndim - 1))

        def pooled(x):
            each = jnp.mean(x, space).reshape(b, groups, -1).mean(axis=2)
            return jnp.repeat(each, c // groups, axis=1)

        mean = checkpoint_name(pooled(x), "statistics")
        factor = checkpoint_name(jax.lax.rsqrt(pooled(x**2) - mean**2 + self.epsilon), "statistics")
        y = (x - between(mean, h)) * between(weight * factor, h) + between(bias, h)
        return (nn.silu(y) if self.activate else y).astype(self.dtype)


def between(each: Float[Array, "rows c"], h: Float[Array, "b *space c"]) -> Array:
    """Returns one number for each row and channel, with axes of 1 for those between them in h."""
    return each.reshape(len(each), *(1,) * (h.ndim - 2), -1)


def down_and_up(
    h: Features,
    levels: int,
    blocks: int,
    attention: tuple[int, ...],
    block: Callable[[Array, int, str, bool], Array],
    resampled: Callable[[Array, int, str], Array],
    join: Callable[[Array, Array], Array] = lambda h, skip: jnp.concatenate([h, skip], axis=-1),
) -> Array:
    """Returns what a U-Net makes of h: down to the last level, two blocks, and up with skip connections.

    The parts are named encoder0_0, ..., down1, encoder1_0, ..., middle0, middle1, decoder1_0, ..., up0,
    decoder0_0, ...; each level has one block more on the way up.

    Args:
        h: features of the first level.
        levels: the number of levels.
        blocks: the number of blocks of each level on the way down.
        attention: the levels whose blocks attend; the block middle0 always does.
        block: block(h, level, name, attends) -> h.
        resampled: resampled(h, level, name) -> h at this level, from that above (down) or below (up).
        join: join(h, skip) -> the input of a block on the way up.
    """
    last, skips = levels - 1, [h]
    for level in range(levels):
        if level:
            h = resampled(h, level, f"down{level}")
            skips.append(h)
        for i in range(blocks):
            h = block(h, level, f"encoder{level}_{i}", level in attention)
            skips.append(h)
    for i in range(2):
        h = block(h, last, f"middle{i}", i == 0)
    for level in reversed(range(levels)):
        if level < last:
            h = resampled(h, level, f"up{level}")
        for i in range(blocks + 1):
            h = block(join(h, skips.pop()), level, f"decoder{level}_{i}", level in attention)
    return h


def convolution(
    features: int, rank: int, dtype: DTypeLike, init: nn.initializers.Initializer, name: str
) -> nn.Conv:
    """Returns a convolution with a kernel of 3 along each axis, padded with zeros."""
    return nn.Conv(features, (3,) * rank, dtype=dtype, kernel_init=init, name=name)

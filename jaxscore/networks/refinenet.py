"""RefineNet with dilated residual stages and instance norm++, the network of NCSN and NCSNv2.

On the way down, each stage has two residual blocks. Stages without dilation halve the image; the last two
stages widen their view by dilation instead. On the way up, one refine block per stage merges the stage's
features with the output of the block below (Lin et al. 2017; Song & Ermon 2019, appendix A).

>>> import jax, jax.numpy as jnp
>>> x = jnp.zeros((1, 8, 8, 1))
>>> jax.eval_shape(RefineNet(channels=8).init_with_output, jax.random.key(0), x)[0].shape
(1, 8, 8, 1)
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxscore.networks.convolution import Convolution
from jaxscore.networks.layers import rematerialised
from jaxscore.networks.resampling import average_pool, halve, max_pool, padded, resize
from jaxscore.types import Array, DTypeLike, Key

Images = Float[Array, "b h w c"]
Level = Int[Array, "b"] | None
Stages = tuple[tuple[int, int], ...]

SMALL: Stages = ((1, 1), (2, 1), (2, 2), (2, 4))
"""Stages (multiple of the channels, dilation) for images of 28 to 64 pixels, which are halved once."""

COMPACT: Stages = ((1, 1), (2, 1), (2, 1), (2, 2))
"""For 28 to 64 pixels, halved twice, at 0.6 of the cost of SMALL with 2 % fewer parameters; not published."""

DEEPER: Stages = ((1, 1), (2, 1), (2, 1), (4, 2), (4, 4))
"""For 96 to 128 pixels: one more stage, and twice the channels in the last two (Song & Ermon 2020, appendix
A)."""

DEEPEST: Stages = ((1, 1), (2, 1), (2, 1), (2, 1), (4, 2), (4, 4))
"""For 256 pixels: another stage more."""


class RefineNet(nn.Module):
    """Images [b, h, w, c] -> images of the same shape, float32.

    With `levels`, each norm has parameters for each noise level, and `level` holds the number of each
    example's level. The refine blocks then have norms, and pool by the mean. With levels=None all examples
    share the parameters, the refine blocks have no norms, and pool by the maximum.

    Args:
        channels: channels of the first stage.
        stages: (multiple of the channels, dilation) of each stage.
        levels: number of noise levels, or None.
        activation: activation function.
        dtype: type of the computation.
        remat: store only the inputs of the blocks for the gradient.

    Inside the network, sides that cannot be halved as often as `stages` requires are padded
    (`resampling.padded`).
    """

    channels: int = 128
    stages: Stages = SMALL
    levels: int | None = None
    activation: Callable[[Array], Array] = nn.elu
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: Images, level: Level = None) -> Images:
        residual, refine = (rematerialised(kind, self.remat) for kind in (ResidualBlock, RefineBlock))
        shared = {"levels": self.levels, "activation": self.activation, "dtype": self.dtype}
        widths = [self.channels * multiple for multiple, _ in self.stages]
        halvings = sum(dilation == 1 for _, dilation in self.stages[1:])
        h = padded(x.astype(self.dtype), 2**halvings)
        h = Convolution(self.channels, dtype=self.dtype, name="begin")(h)
        outputs = []
        for number, (width, (_, dilation)) in enumerate(zip(widths, self.stages, strict=True), 1):
            resample = number > 1
            h = residual(width, dilation, resample, **shared, name=f"stage{number}_block1")(h, level)
            h = residual(width, dilation, False, **shared, name=f"stage{number}_block2")(h, level)
            outputs.append(h)

        # A refine block has as many output channels as the stage above.
        out = [self.channels, *widths]
        for number in reversed(range(1, len(widths) + 1)):
            inputs = outputs[-1:] if number == len(widths) else [outputs[number - 1], h]
            blocks = 3 if number == 1 else 1
            h = refine(out[number - 1], blocks, **shared, name=f"refine{number}")(inputs, level)
        h = InstanceNormPlus(self.levels, self.dtype, name="norm")(h, level)
        h = Convolution(x.shape[-1], dtype=self.dtype, name="end")(self.activation(h))
        return h[:, : x.shape[1], : x.shape[2]].astype(jnp.float32)


class InstanceNormPlus(nn.Module):
    """Instance norm that keeps the channels' means relative to each other.

        gamma ((x - m) / s + alpha (m - mean m) / std m) + beta

    m and s are mean and standard deviation of each channel over the pixels, s with 1 / n. mean m and std m
    are taken over the channels, std m with 1 / (c - 1). 1e-5 is added to both variances. The alpha term keeps
    the brightness of the channels relative to each other, which plain instance norm discards.

    Statistics are float32. With `levels` there are rows of gamma, alpha and beta for each noise level. They
    start at gamma, alpha ~ N(1, 0.02^2) and beta = 0.

    Source: Song & Ermon 2019, appendix A.1.
    """

    levels: int | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Images, level: Level = None) -> Images:
        gamma, alpha, beta = self._rows(x.shape[-1], level)
        x = x.astype(jnp.float32)
        mean = x.mean(axis=(1, 2))
        centred = x - mean[:, None, None]
        scale = jax.lax.rsqrt(jnp.mean(centred**2, axis=(1, 2)) + 1e-5)
        spread = mean - mean.mean(axis=1, keepdims=True)
        spread = spread * jax.lax.rsqrt(jnp.var(mean, axis=1, keepdims=True, ddof=1) + 1e-5)
        out = (gamma * scale)[:, None, None] * centred + (gamma * alpha * spread + beta)[:, None, None]
        return out.astype(self.dtype)

    def _rows(self, channels: int, level: Level) -> Sequence[Array]:
        near_one = lambda key, shape: 1.0 + 0.02 * jax.random.normal(key, shape)
        if self.levels is None:
            inits = {"gamma": near_one, "alpha": near_one, "beta": nn.initializers.zeros}
            return [self.param(name, init, (channels,))[None] for name, init in inits.items()]

        def embedding(key: Key, shape: tuple[int, int]) -> Array:
            return near_one(key, shape).at[:, 2 * channels :].set(0.0)

        table = self.param("embedding", embedding, (self.levels, 3 * channels))
        return jnp.split(jnp.take(table, level, axis=0, mode="clip"), 3, axis=1)


class ResidualBlock(nn.Module):
    """h + conv(act(norm(conv(act(norm(h)))))), with a convolution of h if the shape changes.

    With resample=True the second convolution widens to `channels`. Without dilation the sum is then halved;
    with dilation the sides stay.
    """

    channels: int
    dilation: int = 1
    resample: bool = False
    levels: int | None = None
    activation: Callable[[Array], Array] = nn.elu
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, h: Images, level: Level = None) -> Float[Array, "b out_h out_w d"]:
        halves = self.resample and self.dilation == 1

        def conv(name: str, width: int, size: int = 3) -> nn.Module:
            return Convolution(width, size, self.dilation, dtype=self.dtype, name=name)

        def active(name: str, y: Array) -> Array:
            return self.activation(InstanceNormPlus(self.levels, self.dtype, name=name)(y, level))

        inner = h.shape[-1] if self.resample else self.channels
        y = conv("conv1", inner)(active("norm1", h))
        y = conv("conv2", self.channels)(active("norm2", y))
        if self.resample or h.shape[-1] != self.channels:
            h = conv("shortcut", self.channels, 3 if self.dilation > 1 else 1)(h)
        return halve(h + y) if halves else h + y


class RefineBlock(nn.Module):
    """Residual units for each input, their sum at the size of the first input, chained pooling, more units.

    The output has `channels` channels; the last part has `blocks` residual units.
    """

    channels: int
    blocks: int = 1
    levels: int | None = None
    activation: Callable[[Array], Array] = nn.elu
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, inputs: Sequence[Array], level: Level = None) -> Float[Array, "b h w d"]:
        shared = {"levels": self.levels, "activation": self.activation, "dtype": self.dtype}
        inputs = [
            ResidualUnits(2, **shared, name=f"adapt{number}")(h, level) for number, h in enumerate(inputs, 1)
        ]
        h = inputs[0]
        if len(inputs) > 1:
            h = Fusion(self.channels, self.levels, self.dtype, name="fuse")(inputs, level)
        h = ChainedPooling(**shared, name="pool")(h, level)
        return ResidualUnits(self.blocks, **shared, name="out")(h, level)


class ResidualUnits(nn.Module):
    """`blocks` times h + conv(act(conv(act(h)))), without biases; with levels, a norm before each act."""

    blocks: int
    levels: int | None = None
    activation: Callable[[Array], Array] = nn.elu
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, h: Images, level: Level = None) -> Images:
        for block in range(1, self.blocks + 1):
            y = h
            for half in (1, 2):
                if self.levels is not None:
                    y = InstanceNormPlus(self.levels, self.dtype, name=f"norm{block}_{half}")(y, level)
                name = f"conv{block}_{half}"
                y = self.activation(y)
                y = Convolution(h.shape[-1], use_bias=False, dtype=self.dtype, name=name)(y)
            h = h + y
        return h


class Fusion(nn.Module):
    """Sum of a convolution of each input, interpolated to the sides of the first input."""

    channels: int
    levels: int | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, inputs: Sequence[Array], level: Level = None) -> Float[Array, "b h w d"]:
        total = jnp.zeros((), self.dtype)
        for number, h in enumerate(inputs, 1):
            if self.levels is not None:
                h = InstanceNormPlus(self.levels, self.dtype, name=f"norm{number}")(h, level)
            h = Convolution(self.channels, dtype=self.dtype, name=f"conv{number}")(h)
            total = total + resize(h, inputs[0].shape[1:3])
        return total


class ChainedPooling(nn.Module):
    """act(h), plus each link of a chain of two (5x5 pooling with stride 1, convolution).

    The pooling takes the maximum. With levels it takes the mean, after a norm.
    """

    levels: int | None = None
    activation: Callable[[Array], Array] = nn.elu
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, h: Images, level: Level = None) -> Images:
        h = self.activation(h)
        link = h
        for number in (1, 2):
            if self.levels is None:
                link = max_pool(link)
            else:
                norm = InstanceNormPlus(self.levels, self.dtype, name=f"norm{number}")
                link = average_pool(norm(link, level))
            name = f"conv{number}"
            link = Convolution(h.shape[-1], use_bias=False, dtype=self.dtype, name=name)(link)
            h = h + link
        return h

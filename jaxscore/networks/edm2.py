"""EDM2 (Karras et al. 2024, arXiv:2312.02696): a U-Net whose layers keep the magnitude of their input.

    s = EDM2.named("s", classes=1000)                             # sizes xs, s, m, l, xl, xxl of the paper
    tx = optax.chain(optax.adam(1e-2), forced())                  # kernels keep their norm in training

There are no biases and no group norms. Every kernel is used with unit norm for each output channel, and
activations are scaled so that inputs of unit variance have outputs of unit variance.

>>> network = EDM2(channels=8, multipliers=(1, 2), blocks=1, attention=())
>>> x, c_noise = jnp.ones((2, 4, 6, 3)), jnp.zeros(2)
>>> params = jax.eval_shape(network.init, jax.random.key(0), x, c_noise)  # the shapes alone
>>> jax.eval_shape(network.apply, params, x, c_noise).shape
(2, 4, 6, 3)
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from jaxscore.networks.blocks import Features, attention, down_and_up, heads
from jaxscore.networks.layers import conditions, rematerialised, vector
from jaxscore.networks.resampling import doubled, halved, padded
from jaxscore.types import AnyArray, Array, DTypeLike, Params

SIZES = {"xs": 128, "s": 192, "m": 256, "l": 320, "xl": 384, "xxl": 448}
"""Channels of the published sizes."""


class EDM2(nn.Module):
    """x[b, ..., c] -> the same shape, float32; x is a sequence, an image, a volume or a field of any rank.

    Levels, blocks and skips are those of `ADM`. The output layer has a gain that starts at zero. Sides that
    the levels do not divide are padded inside.

    Args:
        channels: unit of the channels; SIZES has the published ones.
        multipliers: of the channels, for each level.
        blocks: the number of residual blocks of each level; the way up has one more.
        attention: the levels whose blocks attend over all their positions.
        classes: the number of classes, if the condition has class numbers.
        dropout: the fraction of hidden units dropped if train=True, which then needs rngs={"dropout": key}.
        head: the channels of an attention head; narrower levels have one head.
        dtype: the type in which the network computes.
        flash: attention by the kernels of cuDNN, which need an NVIDIA GPU and dtype bfloat16 or float16.
        remat: keep only the inputs of the blocks for the gradient.
    """

    channels: int = 192
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    blocks: int = 3
    attention: tuple[int, ...] = (2, 3)
    classes: int = 0
    dropout: float = 0.0
    head: int = 64
    dtype: DTypeLike = jnp.float32
    flash: bool = False
    remat: bool = False

    @classmethod
    def named(cls, size: str, **fields: Any) -> "EDM2":
        """Returns the network of a published size; ValueError for other names."""
        if size not in SIZES:
            raise ValueError(f"size {size!r} is not known; use {', '.join(SIZES)}")
        return cls(channels=SIZES[size], **fields)

    @nn.compact
    def __call__(
        self, x: Features, c_noise: Float[Array, "b"], condition: Any = None, *, train: bool = False
    ) -> Features:
        event = x.shape[1:]
        embedding, image = self.embedded(x, c_noise, condition)
        parts = [x] if image is None else [x, image]
        # A channel of ones stands in for biases.
        x = jnp.concatenate([*parts, jnp.ones_like(x[..., :1])], axis=-1)
        x = padded(x, 2 ** (len(self.multipliers) - 1)).astype(self.dtype)

        h = MPConv(self.channels * self.multipliers[0], 3, self.dtype, name="in")(x)

        def block(h, level, name, attends):
            decodes = not name.startswith("encoder")
            return self.block(level, name, attends, decodes=decodes)(h, embedding, train)

        def resampled(h, level, name):
            step = -1 if name.startswith("down") else 1
            return self.block(level + step, name, decodes=step == 1, resample=step)(h, embedding, train)

        levels = len(self.multipliers)
        h = down_and_up(h, levels, self.blocks, self.attention, block, resampled, mp_concatenate)
        gain = self.param("out_gain", nn.initializers.zeros, ())
        out = gain * MPConv(event[-1], 3, self.dtype, name="out0")(h)
        return out.astype(jnp.float32)[(slice(None), *map(slice, event))]

    def embedded(self, x: Array, c_noise: Array, condition: Any) -> tuple[Array, Array | None]:
        """Returns the embedding of noise level and class, and a condition that is an image."""
        widths = [self.channels * multiplier for multiplier in self.multipliers]
        given = conditions(condition, x, self.classes)
        h = MPConv(max(widths), 1, name="noise")(MPFourier(widths[0], name="waves")(c_noise))
        if given.label is not None:
            label = MPConv(max(widths), 1, name="label")(vector(given.label, self.classes))
            h = mp_sum(h, label, 0.5)
        return mp_silu(h).astype(self.dtype), given.image

    def block(
        self, width: int, name: str, attend: bool = False, *, decodes: bool = False, resample: int = 0
    ) -> nn.Module:
        """Returns the block with this name and the width of this level."""
        channels = self.channels * self.multipliers[width]
        return rematerialised(MPBlock, self.remat, static=(3,))(
            channels,
            decodes,
            heads=heads(channels, self.head) if attend else 0,
            dropout=self.dropout,
            resample=resample,
            dtype=self.dtype,
            flash=self.flash,
            name=name,
        )


class MPBlock(nn.Module):
    """h[b, ..., c], embedding[b, e] -> [b, ..., channels]; section 2.3 and figure 21 of the paper.

    A block of the encoder first normalises the channels of each position. Branches are summed with weights
    0.7 and 0.3. The result is clipped at 256 times its usual size.
    """

    channels: int
    decodes: bool
    heads: int = 0
    dropout: float = 0.0
    resample: int = 0
    dtype: DTypeLike = jnp.float32
    flash: bool = False

    @nn.compact
    def __call__(
        self, h: Features, embedding: Float[Array, "b e"], train: bool
    ) -> Float[Array, "b *space_out d"]:
        conv = lambda name, size=3: MPConv(self.channels, size, self.dtype, name=name)
        h = {0: lambda h: h, 1: doubled, -1: halved}[self.resample](h)
        skip = conv("skip", 1) if h.shape[-1] != self.channels else lambda h: h
        h = h if self.decodes else normalised(skip(h), (-1,))
        y = conv("conv0")(mp_silu(h))
        gain = self.param("embedding_gain", nn.initializers.zeros, ()).astype(self.dtype)
        scale = 1 + gain * conv("embedding", 1)(embedding)
        y = mp_silu(y * scale.reshape(len(y), *(1,) * (y.ndim - 2), -1))
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        y = conv("conv1")(y)
        h = mp_sum(skip(h) if self.decodes else h, y, 0.3)
        if self.heads:
            h = mp_sum(h, self.attended(h, conv), 0.3)
        return jnp.clip(h, -256, 256)

    def attended(self, h: Array, conv) -> Array:
        """Returns W softmax(q' k / sqrt(d)) v for each head, with q, k and v normalised at each position."""
        b, c = len(h), self.channels
        qkv = MPConv(3 * c, 1, self.dtype, name="qkv")(h.reshape(b, -1, c))
        qkv = normalised(qkv.reshape(b, -1, 3 * self.heads, c // self.heads), (3,))
        y = attention(*jnp.split(qkv.reshape(b, -1, 3 * c), 3, axis=-1), self.heads, self.flash)
        return conv("proj", 1)(y).reshape(h.shape)


class MPConv(nn.Module):
    """A convolution without bias, whose kernel has unit norm for each output; size 1 is a dense layer."""

    features: int
    size: int = 3
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *space d"]:
        rank = x.ndim - 2 if self.size > 1 else 0
        shape = (self.size,) * rank + (x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape)
        fan_in = kernel.size // self.features
        kernel = (normalised(kernel, tuple(range(rank + 1))) / fan_in**0.5).astype(self.dtype)
        if not rank:
            # The product is one of two matrices, for the same reason as in `blocks.Dense`.
            y = x.reshape(-1, x.shape[-1]).astype(self.dtype) @ kernel
            return y.reshape(*x.shape[:-1], self.features)
        space = "DHW"[-rank:] if rank <= 3 else "".join(map(str, range(rank)))
        dimensions = (f"N{space}C", f"{space}IO", f"N{space}C")
        return jax.lax.conv_general_dilated(
            x.astype(self.dtype), kernel, (1,) * rank, "SAME", dimension_numbers=dimensions
        )


class MPFourier(nn.Module):
    """c_noise[b] -> sqrt(2) cos(f c_noise + phase), [b, width]; normal f and uniform phases, not trained."""

    width: int

    @nn.compact
    def __call__(self, c_noise: Float[Array, "b"]) -> Float[Array, "b width"]:
        f = self.param("frequencies", nn.initializers.normal(2 * jnp.pi), (self.width,))
        phases = self.param("phases", nn.initializers.uniform(2 * jnp.pi), (self.width,))
        f, phases = jax.lax.stop_gradient((f, phases))
        return 2**0.5 * jnp.cos(c_noise[:, None].astype(jnp.float32) * f[None] + phases[None])


class Uncertainty(nn.Module):
    """c_noise[b] -> u[b], the logarithm of the loss expected at each noise level (equation 14).

    Training with w / e^u loss + u learns u, and gives all noise levels gradients of the same size.
    """

    width: int = 128

    @nn.compact
    def __call__(self, c_noise: Float[Array, "b"]) -> Float[Array, "b"]:
        return MPConv(1, 1, name="out")(MPFourier(self.width, name="waves")(c_noise))[:, 0]


def forced() -> optax.GradientTransformation:
    """Returns the last member of an optimiser: it brings every kernel back to norm sqrt(fan-in) per output.

    This is the forced weight normalisation of section 2.3. Without it kernels grow, and their effective
    learning rate falls.
    """

    def update(updates: Params, state: optax.OptState, params: Params) -> tuple[Params, optax.OptState]:
        moved = lambda step, kernel: normalised(kernel + step, tuple(range(kernel.ndim - 1))) - kernel
        name = lambda path: getattr(path[-1], "key", None)
        each = lambda path, step, leaf: moved(step, leaf) if name(path) == "kernel" else step
        return jax.tree_util.tree_map_with_path(each, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


# The gradients of the next two functions keep x alone: storing more takes longer than computing it again.
@partial(jax.checkpoint, static_argnums=1)
def normalised(x: AnyArray, axes: tuple[int, ...]) -> Array:
    """Returns x divided by its root mean square over the axes, plus 1e-4; in float32 inside."""
    root = jnp.sqrt(jnp.mean(x.astype(jnp.float32) ** 2, axis=axes, keepdims=True))
    return (x / (root + 1e-4)).astype(x.dtype)


@jax.checkpoint
def mp_silu(x: Array) -> Array:
    """silu(x) / 0.596, which keeps the second moment of normal x."""
    return nn.silu(x) / 0.596


def mp_sum(a: Array, b: Array, t: float) -> Array:
    """((1 - t) a + t b) / sqrt((1 - t)^2 + t^2)."""
    return ((1 - t) * a + t * b) / ((1 - t) ** 2 + t**2) ** 0.5


def mp_concatenate(a: Array, b: Array) -> Array:
    """Channels of a and b side by side, scaled so that both contribute the same (equation 103, t = 1/2)."""
    n, m = a.shape[-1], b.shape[-1]
    weight = lambda k: ((n + m) / (2 * k)) ** 0.5
    return jnp.concatenate([weight(n) * a, weight(m) * b], axis=-1)

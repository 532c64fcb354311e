"""DDPM, the U-Net of Ho et al. 2020, in the layout of diffusers' UNet2DModel.

    DDPM(channels=128, multipliers=(1, 2, 2, 2), blocks=2, attention=(1,), dropout=0.1)    # CIFAR-10

>>> import jax
>>> network = DDPM(channels=8, multipliers=(1, 2), blocks=1)
>>> x, c_noise = jnp.ones((2, 4, 6, 3)), jnp.zeros(2)
>>> params = jax.eval_shape(network.init, jax.random.key(0), x, c_noise)  # the shapes alone
>>> jax.eval_shape(network.apply, params, x, c_noise).shape
(2, 4, 6, 3)
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore.networks.blocks import XAVIER, Block, Features, GroupNorm, convolution, down_and_up, heads
from jaxscore.networks.layers import Waves, conditions, rematerialised, vector
from jaxscore.networks.resampling import doubled, padded
from jaxscore.types import Array, DTypeLike


class DDPM(nn.Module):
    """x[b, ..., c] -> the same shape, float32; x is a sequence, an image, a volume or a field of any rank.

    It differs from `UNet` in the resampling: sides are halved by a convolution with stride 2, and doubled by
    repeating positions before a convolution. Both branches of a block are added without a scale, and all
    blocks of a level in `attention` attend. c_noise is the number of the step, 0 to 999, in
    published weights. Sides are padded as in `UNet`.

    Args:
        channels: unit of the channels.
        multipliers: of the channels, for each level.
        blocks: the number of residual blocks of each level; the way up has one more.
        attention: the levels whose blocks attend over all their positions.
        classes: the number of classes, if the condition has class numbers.
        dropout: the fraction of hidden units dropped if train=True, which then needs rngs={"dropout": key}.
        groups: of the group norms; by default up to 32 groups, of 4 channels or more.
        head: the channels of an attention head; by default there is one head.
        dtype: the type in which the network computes.
        flash: attention by the kernels of cuDNN, which need an NVIDIA GPU and dtype bfloat16 or float16.
        remat: keep only the inputs of the blocks for the gradient.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2
    attention: tuple[int, ...] = (1,)
    classes: int = 0
    dropout: float = 0.0
    groups: int | None = None
    head: int | None = None
    dtype: DTypeLike = jnp.float32
    flash: bool = False
    remat: bool = False

    @nn.compact
    def __call__(
        self, x: Features, c_noise: Float[Array, "b"], condition: Any = None, *, train: bool = False
    ) -> Features:
        event, rank = x.shape[1:], x.ndim - 2
        given = conditions(condition, x, self.classes)
        embedding = self.embedded(c_noise, given.label)
        x = x if given.image is None else jnp.concatenate([x, given.image], axis=-1)
        x = padded(x, 2 ** (len(self.multipliers) - 1)).astype(self.dtype)

        h = convolution(self.channels, rank, self.dtype, XAVIER, "in")(x)

        def block(h, level, name, attends):
            return self.block(level, name, attends)(h, embedding, train)

        h = down_and_up(h, len(self.multipliers), self.blocks, self.attention, block, self.resampled)
        h = GroupNorm(self.groups, dtype=self.dtype, activate=True, name="out_norm0")(h)
        out = convolution(event[-1], rank, self.dtype, nn.initializers.zeros, "out0")(h)
        return out.astype(jnp.float32)[(slice(None), *map(slice, event))]

    def embedded(self, c_noise: Array, label: Array | None) -> Array:
        """Returns the embedding of noise level and class, [b, 4 channels]."""
        dense = lambda name: nn.Dense(4 * self.channels, dtype=self.dtype, kernel_init=XAVIER, name=name)
        h = dense("layer1")(nn.silu(dense("layer0")(Waves(self.channels, name="waves")(c_noise))))
        return nn.silu(h if label is None else h + dense("label")(vector(label, self.classes)))

    def resampled(self, h: Array, level: int, name: str) -> Array:
        """Returns a convolution with stride 2, padded at the end of each axis only, or one of h doubled."""
        del level  # the channels stay
        stride, rank = (2 if name.startswith("down") else 1), h.ndim - 2
        h = h if stride == 2 else doubled(h)
        padding = [(0, 1) if stride == 2 else (1, 1)] * rank
        shared = {"dtype": self.dtype, "kernel_init": XAVIER, "name": name}
        return nn.Conv(h.shape[-1], (3,) * rank, (stride,) * rank, padding=padding, **shared)(h)

    def block(self, level: int, name: str, attend: bool) -> nn.Module:
        """Returns the block with this name at this level."""
        channels = self.channels * self.multipliers[level]
        return rematerialised(Block, self.remat, static=(3,))(
            channels,
            heads=heads(channels, self.head or channels) if attend else 0,
            dropout=self.dropout,
            scale=1.0,
            groups=self.groups,
            dtype=self.dtype,
            flash=self.flash,
            name=name,
        )

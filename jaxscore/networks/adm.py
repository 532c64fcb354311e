"""ADM, the U-Net of Dhariwal & Nichol 2021, in the form of Karras et al. 2022.

    ADM(channels=192, multipliers=(1, 2, 3, 4), blocks=3, attention=(1, 2, 3), classes=1000, dropout=0.1)

>>> import jax
>>> network = ADM(channels=8, multipliers=(1, 2), blocks=1)
>>> x, c_noise = jnp.ones((2, 4, 6, 3)), jnp.zeros(2)
>>> params = jax.eval_shape(network.init, jax.random.key(0), x, c_noise)  # the shapes alone
>>> jax.eval_shape(network.apply, params, x, c_noise).shape
(2, 4, 6, 3)
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore.networks.blocks import KAIMING, Block, Features, GroupNorm, convolution, down_and_up, heads
from jaxscore.networks.layers import Conditions, Waves, conditions, rematerialised
from jaxscore.networks.resampling import padded
from jaxscore.types import Array, DTypeLike

HEAD = 64
"""Channels of an attention head; narrower levels have one head."""


class ADM(nn.Module):
    """x[b, ..., c] -> the same shape, float32; x is a sequence, an image, a volume or a field of any rank.

    It differs from `UNet` in the blocks: the embedding scales and shifts after the group norm, attention has
    heads of 64 channels, both branches are added without a scale, and all blocks of a level in `attention`
    attend. Blocks that halve or double the sides have no convolution on the skip branch. Sides are padded as
    in `UNet`.

    Args:
        channels: unit of the channels.
        multipliers: of the channels, for each level.
        blocks: the number of residual blocks of each level; the way up has one more.
        attention: the levels whose blocks attend over all their positions.
        classes: the number of classes, if the condition has class numbers.
        augmentations: the number of augmentation labels, if there are any.
        dropout: the fraction of hidden units dropped if train=True, which then needs rngs={"dropout": key}.
        outputs: the channels of the output; those of x by default.
        dtype: the type in which the network computes.
        flash: attention by the kernels of cuDNN, which need an NVIDIA GPU and dtype bfloat16 or float16.
        remat: keep only the inputs of the blocks for the gradient.
    """

    channels: int = 192
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    blocks: int = 3
    attention: tuple[int, ...] = (1, 2, 3)
    classes: int = 0
    augmentations: int = 0
    dropout: float = 0.1
    outputs: int | None = None
    dtype: DTypeLike = jnp.float32
    flash: bool = False
    remat: bool = False

    @nn.compact
    def __call__(
        self, x: Features, c_noise: Float[Array, "b"], condition: Any = None, *, train: bool = False
    ) -> Float[Array, "b *space d"]:
        event, rank = x.shape[1:], x.ndim - 2
        given = conditions(condition, x, self.classes)
        embedding = self.embedded(c_noise, given)
        x = x if given.image is None else jnp.concatenate([x, given.image], axis=-1)
        x = padded(x, 2 ** (len(self.multipliers) - 1)).astype(self.dtype)

        h = convolution(self.channels * self.multipliers[0], rank, self.dtype, KAIMING, "in")(x)

        def block(h, level, name, attends):
            return self.block(level, name, attends)(h, embedding, train)

        def resampled(h, level, name):
            step = -1 if name.startswith("down") else 1
            return self.block(level + step, name, resample=step)(h, embedding, train)

        h = down_and_up(h, len(self.multipliers), self.blocks, self.attention, block, resampled)
        h = GroupNorm(epsilon=1e-5, dtype=self.dtype, activate=True, name="out_norm0")(h)
        out = convolution(self.outputs or event[-1], rank, self.dtype, nn.initializers.zeros, "out0")(h)
        return out.astype(jnp.float32)[(slice(None), *map(slice, event[:-1]))]

    def embedded(self, c_noise: Array, given: Conditions) -> Array:
        """Returns the embedding of noise level, class and augmentation, [b, 4 channels]."""
        dense = lambda n, name, bias=True: nn.Dense(
            n, use_bias=bias, dtype=self.dtype, kernel_init=KAIMING, name=name
        )
        h = jnp.roll(Waves(self.channels, "half_open", name="waves")(c_noise), self.channels // 2, axis=1)
        if self.augmentations:
            labels = jnp.zeros((len(h), self.augmentations)) if given.augment is None else given.augment
            h = h + dense(self.channels, "augment", False)(labels)
        h = dense(4 * self.channels, "layer1")(nn.silu(dense(4 * self.channels, "layer0")(h)))
        if given.label is not None:
            label = jax.nn.one_hot(given.label, self.classes) if self.classes else given.label
            h = h + dense(4 * self.channels, "label", False)(label)
        return nn.silu(h)

    def block(self, width: int, name: str, attend: bool = False, *, resample: int = 0) -> nn.Module:
        """Returns the block with this name and the width of this level."""
        channels = self.channels * self.multipliers[width]
        return rematerialised(Block, self.remat, static=(3,))(
            channels,
            heads=heads(channels, HEAD) if attend else 0,
            dropout=self.dropout,
            resample=resample,
            project=False,
            adaptive=True,
            scale=1.0,
            epsilon=1e-5,
            kernel_init=KAIMING,
            dtype=self.dtype,
            flash=self.flash,
            name=name,
        )

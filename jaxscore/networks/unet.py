"""DDPM++ and NCSN++: the U-Nets of Song et al. 2021b, in the form of Karras et al. 2022.

UNet(channels=128, multipliers=(2, 2, 2), blocks=4, attention=(1,))                        # DDPM++
UNet(..., embedding="fourier", encoder="residual", filter=(1, 3, 3, 1))                    # NCSN++
"""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore.networks.blocks import XAVIER, Block, Dense, Features, GroupNorm, convolution
from jaxscore.networks.layers import Conditions, Mapping, Waves, conditions, rematerialised, vector
from jaxscore.networks.resampling import bordered, doubled, folded, halved, padded, unfolded
from jaxscore.types import Array, DTypeLike


class UNet(nn.Module):
    """x[b, ..., c] -> the same shape, float32; x is a sequence, an image, a volume or a field of any rank.

    Level i (of len(multipliers)) has `channels * multipliers[i]` channels and half the side of the level
    above. It has `blocks` residual blocks on the way down and one more on the way up. The output layer starts
    at zero. Inside the network, sides that 2^(len(multipliers) - 1) does not divide are padded
    (`resampling.padded`).

    The blocks are modulated by the noise level, by the `condition` (`layers.conditions`) and by the `latent`
    z[b, n], as far as they are given. With a latent the network is the generator of a denoising diffusion GAN
    (Xiao et al. 2022, appendix).

    Args:
        channels: of the first level.
        multipliers: of the channels, for each level.
        blocks: the number of residual blocks of each level.
        attention: the levels whose blocks attend over all their positions.
        classes: the number of classes, if the condition has class numbers.
        augmentations: the number of augmentation labels, if there are any (Karras et al. 2022, appendix F).
        dropout: the fraction of hidden units dropped if train=True, which then needs rngs={"dropout": key}.
        embedding: of c_noise: "positional" (DDPM++) or "fourier" (NCSN++).
        noise_multiplier: width of this embedding in units of `channels`; 2 for NCSN++.
        encoder: whether the halved input is added to each level, summed up ("residual") or alone ("skip").
        decoder: whether the output is a sum of outputs of all levels ("skip").
        filter: taps of the resampling filter along each axis; (1, 3, 3, 1) for NCSN++.
        patch: blocks of so many positions along each axis are folded into the channels first, and unfolded at
            the end; 2 has a quarter of the operations on images.
        mapping: the number of layers of the `layers.Mapping` of a latent.
        dtype: the type in which the network computes.
        flash: attention by the kernels of cuDNN, which need an NVIDIA GPU and dtype bfloat16 or float16.
        remat: keep only the inputs of the blocks for the gradient.
    """

    channels: int = 32
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 1
    attention: tuple[int, ...] = ()
    classes: int = 0
    augmentations: int = 0
    dropout: float = 0.0
    embedding: Literal["positional", "fourier"] = "positional"
    noise_multiplier: int = 1
    encoder: Literal["standard", "residual", "skip"] = "standard"
    decoder: Literal["standard", "skip"] = "standard"
    filter: tuple[int, ...] = (1, 1)
    patch: int = 1
    mapping: int = 4
    dtype: DTypeLike = jnp.float32
    flash: bool = False
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        x: Features,
        c_noise: Float[Array, "b"],
        condition: Any = None,
        latent: Float[Array, "b n"] | None = None,
        *,
        train: bool = False,
    ) -> Features:
        event = x.shape[1:]
        given = conditions(condition, x, self.classes)
        embedding = self.embedded(c_noise, given, latent)
        x = x if given.image is None else jnp.concatenate([x, given.image], axis=-1)
        x = padded(x, self.patch * 2 ** (len(self.multipliers) - 1)).astype(self.dtype)
        x, outputs = folded(x, self.patch), self.patch ** (x.ndim - 2) * event[-1]
        h, skips = self.encoded(x, embedding, train)
        out = unfolded(self.decoded(h, skips, outputs, embedding, train).astype(jnp.float32), self.patch)
        return out[(slice(None), *map(slice, event))]

    def embedded(self, c_noise: Array, given: Conditions, latent: Array | None) -> Array:
        """Returns the embedding of noise level, class, augmentation and latent, [b, 4 channels]."""
        width, wide = self.channels * self.noise_multiplier, 4 * self.channels
        dense = lambda n, name, bias=True: nn.Dense(
            n, use_bias=bias, dtype=self.dtype, kernel_init=XAVIER, name=name
        )
        h = Waves(width, self.embedding, name="waves")(c_noise)
        if given.label is not None:
            h = h + dense(width, "label")(vector(given.label, self.classes))
        if self.augmentations:
            labels = jnp.zeros((len(h), self.augmentations)) if given.augment is None else given.augment
            h = h + dense(width, "augment", False)(labels)
        if latent is not None:
            h = jnp.concatenate([h, Mapping(wide, self.mapping, self.dtype)(latent)], axis=1)
        h = nn.silu(dense(wide, "layer0")(h))
        return nn.silu(dense(wide, "layer1")(h))

    def block(self, level: int, name: str, *, attend: bool = False, resample: int = 0) -> nn.Module:
        """Returns the block with this name, which begins with the width of this level."""
        kind = rematerialised(Block, self.remat, static=(3,))
        shared = {"dropout": self.dropout, "filter": self.filter, "flash": self.flash}
        shared |= {"dtype": self.dtype, "name": name}
        return kind(self.channels * self.multipliers[level], heads=int(attend), resample=resample, **shared)

    def encoded(self, x: Array, embedding: Array, train: bool) -> tuple[Array, list[Array]]:
        """Returns the result of the way down, and the results that the way up takes as inputs."""
        h = convolution(self.channels, x.ndim - 2, self.dtype, XAVIER, "in")(x)
        skips = [h]
        for level in range(len(self.multipliers)):
            if level:
                h = self.block(level - 1, f"down{level}", resample=-1)(h, embedding, train)
                x, h = self.added(x, h, level)
                skips.append(h)
            for i in range(self.blocks):
                name, attend = f"encoder{level}_{i}", level in self.attention
                h = self.block(level, name, attend=attend)(h, embedding, train)
                skips.append(h)
        return h, skips

    def added(self, x: Array, h: Array, level: int) -> tuple[Array, Array]:
        """Returns the halved input, and h with this input added, as `encoder` says."""
        width, name = h.shape[-1], f"input{level}"
        if self.encoder == "skip":
            x = halved(x, self.filter)
            return x, h + Dense(width, dtype=self.dtype, kernel_init=XAVIER, name=name)(x)
        if self.encoder == "residual":
            # The convolution is also computed outside, as far as the filter reaches.
            x = convolution(width, x.ndim - 2, self.dtype, XAVIER, name)(bordered(x, self.filter))
            x = 0.5**0.5 * (h + halved(x, self.filter, border=False))
            return x, x
        return x, h

    def decoded(self, h: Array, skips: list[Array], channels: int, embedding: Array, train: bool) -> Array:
        """Returns the output of the way up: that of the first level, or the sum over all levels."""
        last, total = len(self.multipliers) - 1, 0.0
        for i in range(2):
            h = self.block(last, f"middle{i}", attend=i == 0)(h, embedding, train)
        for level in reversed(range(len(self.multipliers))):
            if level < last:
                h = self.block(level + 1, f"up{level}", resample=1)(h, embedding, train)
            for i in range(self.blocks + 1):
                attend = i == self.blocks and level in self.attention
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = self.block(level, f"decoder{level}_{i}", attend=attend)(h, embedding, train)
            if self.decoder == "skip" or level == 0:
                y = GroupNorm(dtype=self.dtype, activate=True, name=f"out_norm{level}")(h)
                y = convolution(channels, h.ndim - 2, self.dtype, nn.initializers.zeros, f"out{level}")(y)
                total = y + (doubled(total, self.filter) if self.decoder == "skip" and level < last else 0.0)
        return total

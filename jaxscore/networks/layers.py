"""Layers that several networks share."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore.types import Array, DTypeLike


class NoiseEmbedding(nn.Module):
    """c_noise[b] -> [b, width]: sines and cosines at geometric frequencies, then a layer and SiLU.

    Fourier features as in Tancik et al. 2020, with fixed frequencies from 1 to `frequency_max`
    radians per unit of c_noise = ln(sigma) / 4. Computed in float32: the phase needs the digits.
    """

    width: int
    features: int = 64
    frequency_max: float = 32.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, c_noise: Float[Array, "b"]) -> Float[Array, "b width"]:
        frequencies = jnp.geomspace(1.0, self.frequency_max, self.features // 2)
        phase = c_noise[:, None].astype(jnp.float32) * frequencies[None]
        waves = jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=1)
        return nn.silu(nn.Dense(self.width, dtype=self.dtype)(waves))


class Modulation(nn.Module):
    """x (1 + scale) + shift, both linear in the embedding and zero at first (Perez et al. 2018)."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], embedding: Float[Array, "b e"]) -> Array:
        dense = nn.Dense(2 * x.shape[-1], dtype=self.dtype, kernel_init=nn.initializers.zeros)
        per_example = (x.shape[0],) + (1,) * (x.ndim - 2) + (2 * x.shape[-1],)
        scale, shift = jnp.split(dense(embedding).reshape(per_example), 2, axis=-1)
        return x * (1 + scale) + shift


def rematerialised(kind: type[nn.Module], remat: bool, *, static: tuple[int, ...] = ()) -> type[nn.Module]:
    """The module, or with `remat` one that keeps its inputs and computes the rest again for the gradient.

    A quarter to a third more operations, for the memory of one block in place of all (Chen et al. 2016).
    `static` are the numbers of arguments that are no arrays, self being 0. Give the module the name that it
    would have by itself: the parameters are then the same.
    """
    return nn.remat(kind, static_argnums=static) if remat else kind

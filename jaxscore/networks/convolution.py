"""Convolutions with PyTorch's initialisation and padding by zeros.

>>> import jax, jax.numpy as jnp
>>> layer = Convolution(8, dilation=2)
>>> params = layer.init(jax.random.key(0), jnp.zeros((1, 6, 6, 3)))
>>> layer.apply(params, jnp.zeros((1, 6, 6, 3))).shape
(1, 6, 6, 8)
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore.types import Array, DTypeLike, Key


class Convolution(nn.Module):
    """[b, h, w, c] -> [b, h, w, features]: a square kernel of odd `size`, stride 1, padded with zeros.

        y_p = bias + sum over q of kernel_q x_{p + dilation q}

    Kernel and bias start uniform in +- 1 / sqrt(size^2 c). This is PyTorch's default, with which NCSN and
    NCSNv2 were published.
    """

    features: int
    size: int = 3
    dilation: int = 1
    use_bias: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        bound = (self.size**2 * x.shape[-1]) ** -0.5

        def uniform(key: Key, shape: tuple[int, ...]) -> Array:
            return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

        kernel = self.param("kernel", uniform, (self.size, self.size, x.shape[-1], self.features))
        y = jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            window_strides=(1, 1),
            padding="SAME",
            rhs_dilation=(self.dilation, self.dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        if self.use_bias:
            bias = self.param("bias", uniform, (self.features,))
            y = y + bias.astype(self.dtype)[None, None, None]
        return y

"""Pooling and interpolation of images [b, h, w, c], with few operations and cheap gradients.

>>> import jax.numpy as jnp
>>> ramp = jnp.arange(16.0).reshape(1, 4, 4, 1)
>>> halve(ramp)[0, :, :, 0].tolist()
[[2.5, 4.5], [10.5, 12.5]]
>>> resize(halve(ramp), (3, 3))[0, 0, :, 0].tolist()
[2.5, 3.5, 4.5]
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxscore.types import Array

Images = Float[Array, "b h w c"]


def halve(x: Images) -> Float[Array, "b h_half w_half c"]:
    """Mean of each 2 x 2 block, which halves the sides. Raises ValueError if a side is odd."""
    b, height, width, c = x.shape
    if height % 2 or width % 2:
        raise ValueError(f"image sides {(height, width)} must be even where the network halves them")
    return x.reshape(b, height // 2, 2, width // 2, 2, c).mean(axis=(2, 4))


def padded(x: Images, factor: int) -> Float[Array, "b h_padded w_padded c"]:
    """Returns images with sides that `factor` divides: edge pixels are repeated below and to the right.

    A network that halves its images pads them first, and cuts its output to [:, :height, :width] again.
    """
    below, right = (-side % factor for side in x.shape[1:3])
    return jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)), mode="edge") if below or right else x


def max_pool(x: Images) -> Images:
    """Maximum over the 5 x 5 pixels around each pixel; pixels outside the image do not count.

    It is computed by maxima of shifted slices, along rows and then columns, whose gradient is a selection.
    The gradient of a reduction over windows is a scatter, which XLA does one number at a time on CPU.
    """
    return _windows_of_five(x, _maximum, -jnp.inf)


def average_pool(x: Images) -> Images:
    """Mean over the 5 x 5 pixels around each pixel, with zeros outside the image."""
    return _windows_of_five(x, jnp.add, 0.0) / 25


def _windows_of_five(x: Images, combine: Callable[[Array, Array], Array], outside: float) -> Images:
    for axis in (1, 2):
        padding = [(0, 0)] * 4
        padding[axis] = (2, 2)
        size = x.shape[axis]
        shifted = functools.partial(jax.lax.slice_in_dim, axis=axis)
        ends = jnp.pad(x, padding, constant_values=outside)
        pairs = combine(shifted(ends, 0, size + 3), shifted(ends, 1, size + 4))
        fours = combine(shifted(pairs, 0, size), shifted(pairs, 2, size + 2))
        x = combine(fours, shifted(ends, 4, size + 4))
    return x


def _maximum(a: Array, b: Array) -> Array:
    """Maximum whose gradient stores one mask of bits; that of `jnp.maximum` stores two masks of floats."""
    return jnp.where(a >= b, a, b)


def resize(x: Images, sides: tuple[int, int]) -> Float[Array, "b new_h new_w c"]:
    """Linear interpolation along rows and columns, with corner pixels mapped to corner pixels."""
    rows, columns = (_interpolation(old, new) for old, new in zip(x.shape[1:3], sides, strict=True))
    if x.shape[1] != sides[0]:
        x = jnp.einsum("oh,bhwc->bowc", jnp.asarray(rows, x.dtype), x)
    if x.shape[2] != sides[1]:
        x = jnp.einsum("ow,bhwc->bhoc", jnp.asarray(columns, x.dtype), x)
    return x


def _interpolation(old: int, new: int) -> np.ndarray:
    """Weights [new, old] of linear interpolation: two neighbours for each new position."""
    position = np.linspace(0.0, old - 1.0, new)
    return np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(old)[None]))

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


def padded(x: Float[Array, "b *space c"], factor: int) -> Float[Array, "b *padded c"]:
    """Returns x with sides that `factor` divides: the values at the end of each axis are repeated.

    A network that halves its input pads it first, and cuts its output to the sides of the input again. Raises
    ValueError if x has no sides.
    """
    if x.ndim < 3:
        raise ValueError(f"x has shape {x.shape}: this network needs [b, ..., c] with at least one side")
    missing = [(0, -side % factor) for side in x.shape[1:-1]]
    return jnp.pad(x, [(0, 0), *missing, (0, 0)], mode="edge") if any(map(sum, missing)) else x


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


# Along every axis between the first and the last --------------------------------------------------


def halved(
    x: Float[Array, "b *space c"], taps: tuple[int, ...] = (1, 1), *, border: bool = True
) -> Float[Array, "b *half c"]:
    """Filters with the taps, normalised to sum 1, and keeps every second position of each axis.

        y_i = sum over k of f_k x_{2i + k - p},    p = (len(taps) - 1) // 2,    zeros outside

    With (1, 1) it is the mean over blocks of two. With border=False x is `bordered` already. Raises
    ValueError if a side is odd, or the number of taps.
    """
    f, p = _filter(taps)
    x = bordered(x, taps) if border else x
    for axis in range(1, x.ndim - 1):
        n = x.shape[axis] - 2 * p
        if n % 2:
            raise ValueError(f"a side of {n} must be even where the network halves it")
        strided = lambda k, x=x, axis=axis, n=n: jax.lax.slice_in_dim(x, k, k + n - 1, 2, axis)
        x = sum(weight * strided(k) for k, weight in enumerate(f))
    return x


def folded(x: Float[Array, "b *space c"], side: int) -> Float[Array, "b *blocks d"]:
    """Returns x with each block of `side` positions along every axis as one position, d = side^rank c."""
    b, *sides, c = x.shape
    rank = len(sides)
    x = x.reshape(b, *(part for whole in sides for part in (whole // side, side)), c)
    outer, inner = range(1, 2 * rank, 2), range(2, 2 * rank + 1, 2)
    x = x.transpose(0, *outer, *inner, 2 * rank + 1)
    return x.reshape(b, *(whole // side for whole in sides), side**rank * c)


def unfolded(x: Float[Array, "b *blocks d"], side: int) -> Float[Array, "b *space c"]:
    """Returns the x of which `folded` makes this one."""
    b, *sides, _ = x.shape
    rank = len(sides)
    x = x.reshape(b, *sides, *(side,) * rank, -1)
    pairs = (axis for each in range(1, rank + 1) for axis in (each, each + rank))
    return x.transpose(0, *pairs, 2 * rank + 1).reshape(b, *(side * whole for whole in sides), -1)


def bordered(x: Float[Array, "b *space c"], taps: tuple[int, ...]) -> Float[Array, "b *wider c"]:
    """Returns x with zeros around it, as far as the filter of `halved` reaches."""
    _, p = _filter(taps)
    return jnp.pad(x, [(0, 0), *[(p, p)] * (x.ndim - 2), (0, 0)])


def doubled(x: Float[Array, "b *space c"], taps: tuple[int, ...] = (1, 1)) -> Float[Array, "b *double c"]:
    """The transpose of `halved` times 2 for each axis: doubles every axis, and keeps the mean of constants.

    With (1, 1) every position is repeated. Raises ValueError if the number of taps is odd.
    """
    f, p = _filter(taps)
    for axis in range(1, x.ndim - 1):
        n, ends = x.shape[axis], jnp.pad(x, [(p, p) if each == axis else (0, 0) for each in range(x.ndim)])
        shifted = lambda i, ends=ends, axis=axis, n=n: jax.lax.slice_in_dim(ends, p + i, p + i + n, 1, axis)
        # Output 2m + phase has the inputs m + (phase + p - k) / 2, for the taps k where this is an integer.
        phases = [
            sum(2 * f[k] * shifted((phase + p - k) // 2) for k in range((phase + p) % 2, len(f), 2))
            for phase in (0, 1)
        ]
        pairs = jnp.stack(phases, axis=axis + 1)
        x = pairs.reshape(*x.shape[:axis], 2 * n, *x.shape[axis + 1 :])
    return x


def _filter(taps: tuple[int, ...]) -> tuple[tuple[float, ...], int]:
    """Returns the normalised taps, and the number of positions outside that the filter reaches."""
    if len(taps) % 2:
        raise ValueError(f"the filter has {len(taps)} taps; their number must be even")
    return tuple(tap / sum(taps) for tap in taps), (len(taps) - 1) // 2

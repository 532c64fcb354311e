"""Operators on images, sequences and volumes: known values, blur, downsampling, grey from colour.

The last axis of an event is that of the channels; the axes before it are spatial.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxscore.inverse.operators.linear import Operator, divided
from jaxscore.types import AnyArray, Array, right


def mask(known: AnyArray) -> Operator:
    """Returns the values of x where `known`, of the shape of an event, is true: y[b, number of true].

    `adjoint` puts them back and has 0 elsewhere. Values that are only partly known are another operator: a
    weight of 0.5 is `linear(lambda x: 0.5 * x, event)`.

    Raises ValueError if `known` is not boolean, and if nothing is known.
    """
    known = np.asarray(known)
    if known.dtype != bool:
        raise ValueError(f"the mask has {known.dtype} values; it must be boolean, as in values > 0.5")
    places = np.flatnonzero(known)
    if not len(places):
        raise ValueError("the mask is false everywhere: nothing is measured")

    def apply(x: Array) -> Array:
        if x.shape[1:] != known.shape:
            raise ValueError(f"the mask has shape {known.shape}, and an event has shape {x.shape[1:]}")
        return x.reshape(len(x), -1)[:, places]

    def adjoint(y: Array) -> Array:
        if y.shape[1:] != (len(places),):
            raise ValueError(f"y has shape {y.shape}, and the mask measures {len(places)} values")
        return jnp.zeros((len(y), known.size), y.dtype).at[:, places].set(y).reshape(len(y), *known.shape)

    return Operator(apply, adjoint, lambda c, y: y / (1 + right(c, y)))


def downsample(factor: int) -> Operator:
    """Returns means over blocks of `factor` along every spatial axis: y[b, h / factor, w / factor, c].

    A block's mean stands at the block's centre, so images do not shift. For other filters, such as bicubic
    ones, make the operator of `jax.image.resize` by `linear`.

    Raises ValueError if factor < 1, and if it does not divide a spatial axis.
    """
    if factor < 1:
        raise ValueError(f"factor = {factor} must be at least 1")

    def apply(x: Array) -> Array:
        shape = x.shape[1:-1]
        if any(length % factor for length in shape) or not shape:
            raise ValueError(f"factor = {factor} must divide the spatial axes of an event {x.shape[1:]}")
        blocks = [part for length in shape for part in (length // factor, factor)]
        axes = tuple(range(2, 2 * len(shape) + 1, 2))
        return x.reshape(len(x), *blocks, x.shape[-1]).mean(axis=axes)

    def adjoint(y: Array) -> Array:
        for axis in range(1, y.ndim - 1):
            y = jnp.repeat(y, factor, axis) / factor
        return y

    return Operator(apply, adjoint, lambda c, y: y / (factor ** (2.0 - y.ndim) + right(c, y)))


def blur(kernel: Float[AnyArray, "..."]) -> Operator:
    """Returns the convolution of every channel with the kernel, with periodic boundaries, by FFT.

    The kernel has one axis for each spatial axis. A point at p becomes the kernel with its entry k // 2 at p,
    k the length of an axis: the middle of an odd kernel, right of the middle of an even one. The sum of the
    kernel is not changed.

    Raises ValueError if the kernel is complex, longer than an event, or has other axes.
    """
    if np.iscomplexobj(kernel):
        raise ValueError("the kernel is complex; it must be real")
    kernel = np.asarray(kernel, np.float32)

    def transfer(x: Array) -> Array:
        """Returns the Fourier transform of the kernel for the spatial axes of x, [1, ..., 1]."""
        shape = x.shape[1:-1]
        if kernel.ndim != len(shape) or any(map(int.__gt__, kernel.shape, shape)):
            raise ValueError(f"the kernel has shape {kernel.shape}, and an event has shape {x.shape[1:]}")
        padded = np.zeros(shape)
        padded[tuple(map(slice, kernel.shape))] = kernel
        centred = np.roll(padded, [-(length // 2) for length in kernel.shape], range(kernel.ndim))
        return jnp.asarray(np.fft.fftn(centred)[None, ..., None], jnp.complex64)

    def filtered(x: Array, factor) -> Array:
        axes = tuple(range(1, x.ndim - 1))
        found = jnp.fft.ifftn(factor(jnp.fft.fftn(x, axes=axes)), axes=axes).real
        return found.astype(x.dtype if jnp.issubdtype(x.dtype, jnp.inexact) else found.dtype)

    def solve(c: Array, y: Array) -> Array:
        return filtered(y, lambda z: divided(z, jnp.abs(transfer(y)) ** 2, c))

    return Operator(
        lambda x: filtered(x, lambda z: z * transfer(x)),
        lambda y: filtered(y, lambda z: z * transfer(y).conj()),
        solve,
    )


def gaussian_kernel(std: float, axes: int = 2) -> Float[np.ndarray, "..."]:
    """Returns a Gaussian kernel for `blur` with `std` in pixels, cut off at 3 std; its sum is 1.

    Raises ValueError unless std > 0 and axes >= 1.
    """
    if not 0 < std < math.inf or axes < 1:
        raise ValueError(f"std = {std} must be positive, and axes = {axes} at least 1")
    reach = math.ceil(3 * std)
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / std) ** 2)
    kernel = line / line.sum()
    for _ in range(axes - 1):
        kernel = kernel[..., None] * (line / line.sum())
    return kernel.astype(np.float32)


def grey(weights: Sequence[float] = (0.299, 0.587, 0.114)) -> Operator:
    """Returns the weighted sum of the channels, y[b, ..., 1]; the weights are those of ITU-R BT.601."""
    w = np.asarray(weights, np.float32)

    def apply(x: Array) -> Array:
        if x.shape[-1:] != w.shape:
            raise ValueError(f"an event has shape {x.shape[1:]}; there are {len(w)} weights of channels")
        return (x @ w)[..., None]

    def adjoint(y: Array) -> Array:
        if y.shape[-1:] != (1,):
            raise ValueError(f"y has shape {y.shape}; a grey image has one channel")
        return y * jnp.expand_dims(w, range(y.ndim - 1))

    return Operator(apply, adjoint, lambda c, y: y / (w @ w + right(c, y)))

"""The Inception network of the Frechet inception distance (FID), which is applied but not trained here.

>>> weights = interpolation(2, 4)
>>> weights.tolist()
[[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num

from jaxscore.types import AnyArray, Array

SIDE = 299
"""Height and width in pixels to which images are resized."""

FEATURES = 2048
"""Number of features of an image."""

EXACT = jax.lax.Precision.HIGHEST
"""Products in full float32: accelerators round factors to fewer digits by default, which moves the FID."""

Layer = tuple[Any, ...]
"""Name, number of features and, unless they are 1, size and stride of a convolution."""


class Inception(nn.Module):
    """Features of images with pixels in 0..255: [b, h, w, 3] -> [b, 2048].

        h = 2 resized(x) / 255 - 1
        h = the convolutions and the eleven blocks Mixed_5b to Mixed_7c
        features = mean of h over the positions

    Each convolution is followed by max(0, .). Its kernel and bias include the batch norm, whose statistics
    are fixed. Layers have the names that they have in the file of pytorch-fid. The network differs from
    torchvision's Inception v3: average pools do not count padding, and Mixed_7c pools by maximum. Products
    are computed in full float32 on every device.

    Source: Szegedy et al. 2016 (the network); Heusel et al. 2017 (the features).
    """

    @nn.compact
    def __call__(self, x: Num[AnyArray, "b h w 3"]) -> Float[Array, "b 2048"]:
        h = resized(x) * (2 / 255) - 1
        h = _convolved(h, "Conv2d_1a_3x3", 32, 3, 2)
        h = _convolved(h, "Conv2d_2a_3x3", 32, 3, padding="VALID")
        h = _convolved(h, "Conv2d_2b_3x3", 64, 3)
        h = _convolved(_halved(h), "Conv2d_3b_1x1", 80)
        h = _convolved(h, "Conv2d_4a_3x3", 192, 3, padding="VALID")
        h = _halved(h)
        for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            h = _mixed_5(h, name, pooled)
        h = _mixed_6a(h)
        for name, width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            h = _mixed_6(h, name, width)
        h = _mixed_7a(h)
        h = _mixed_7(h, "Mixed_7b", _average)
        h = _mixed_7(h, "Mixed_7c", _maximum)
        return h.mean(axis=(1, 2))


# Resizing -----------------------------------------------------------------------------------------


def resized(x: Num[AnyArray, "b h w c"], side: int = SIDE) -> Float[Array, "b side side c"]:
    """Images with `side` rows and columns, by bilinear interpolation in float32; see `interpolation`."""
    rows, columns = (jnp.asarray(interpolation(n, side), jnp.float32) for n in x.shape[1:3])
    x = jnp.asarray(x, jnp.float32)
    return jnp.einsum("ih,jw,bhwc->bijc", rows, columns, x, precision=EXACT)


def interpolation(n: int, side: int) -> Float[np.ndarray, "side n"]:
    """Weights of linear interpolation from n pixels to `side` pixels.

        pixel i is the value at (i + 1/2) n / side - 1/2, held between 0 and n - 1

    Centres of pixels lie at half-integers, and a smaller image is not smoothed first. PyTorch calls this
    bilinear with align_corners=False and antialias=False.
    """
    place = np.clip((np.arange(side) + 0.5) * n / side - 0.5, 0, n - 1)[:, None]
    return np.maximum(1 - np.abs(place - np.arange(n)), 0)


# Blocks -------------------------------------------------------------------------------------------


def _mixed_5(h: Array, name: str, pooled: int) -> Array:
    branch = partial(_branch, name)
    return _joined(
        branch(h, ("branch1x1", 64)),
        branch(h, ("branch5x5_1", 48), ("branch5x5_2", 64, 5)),
        branch(h, ("branch3x3dbl_1", 64), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)),
        branch(_average(h), ("branch_pool", pooled)),
    )


def _mixed_6a(h: Array) -> Array:
    branch = partial(_branch, "Mixed_6a")
    return _joined(
        branch(h, ("branch3x3", 384, 3, 2)),
        branch(h, ("branch3x3dbl_1", 64), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, 2)),
        _halved(h),
    )


def _mixed_6(h: Array, name: str, width: int) -> Array:
    branch, across, down = partial(_branch, name), (1, 7), (7, 1)
    double = [(width, 1), (width, down), (width, across), (width, down), (192, across)]
    return _joined(
        branch(h, ("branch1x1", 192)),
        branch(h, ("branch7x7_1", width), ("branch7x7_2", width, across), ("branch7x7_3", 192, down)),
        branch(h, *((f"branch7x7dbl_{i}", *layer) for i, layer in enumerate(double, 1))),
        branch(_average(h), ("branch_pool", 192)),
    )


def _mixed_7a(h: Array) -> Array:
    branch = partial(_branch, "Mixed_7a")
    after = [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)]
    return _joined(
        branch(h, ("branch3x3_1", 192), ("branch3x3_2", 320, 3, 2)),
        branch(h, *((f"branch7x7x3_{i}", *layer) for i, layer in enumerate(after, 1))),
        _halved(h),
    )


def _mixed_7(h: Array, name: str, pool: Any) -> Array:
    branch = partial(_branch, name)
    single = branch(h, ("branch3x3_1", 384))
    double = branch(h, ("branch3x3dbl_1", 448), ("branch3x3dbl_2", 384, 3))
    return _joined(
        branch(h, ("branch1x1", 320)),
        branch(single, ("branch3x3_2a", 384, (1, 3))),
        branch(single, ("branch3x3_2b", 384, (3, 1))),
        branch(double, ("branch3x3dbl_3a", 384, (1, 3))),
        branch(double, ("branch3x3dbl_3b", 384, (3, 1))),
        branch(pool(h), ("branch_pool", 192)),
    )


def _branch(block: str, h: Array, *layers: Layer) -> Array:
    for name, *rest in layers:
        h = _convolved(h, f"{block}.{name}", *rest)
    return h


def _convolved(
    h: Array,
    name: str,
    features: int,
    size: int | Sequence[int] = 1,
    stride: int = 1,
    padding: str | None = None,
) -> Array:
    """max(0, convolution of h): padded with zeros to the same size, or not at all if it has a stride."""
    size = (size, size) if isinstance(size, int) else tuple(size)
    padding = padding or ("SAME" if stride == 1 else "VALID")
    return nn.relu(nn.Conv(features, size, stride, padding, precision=EXACT, name=name)(h))


def _joined(*branches: Array) -> Array:
    return jnp.concatenate(branches, axis=-1)


def _halved(h: Array) -> Array:
    return nn.max_pool(h, (3, 3), (2, 2))


def _maximum(h: Array) -> Array:
    return nn.max_pool(h, (3, 3), padding="SAME")


def _average(h: Array) -> Array:
    return nn.avg_pool(h, (3, 3), padding="SAME", count_include_pad=False)

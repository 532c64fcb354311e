"""Geometric augmentation that does not leak into the samples: the network is told what was done to an image.

>>> import jax
>>> images = jnp.zeros((4, 8, 8, 3))
>>> changed, labels = augmented(jax.random.key(0), images, 0.12)
>>> changed.shape, labels.shape
((4, 8, 8, 3), (4, 9))

The labels go to the network as condition["augment"]. Samples are drawn with labels of zero, which are the
labels of an unchanged image.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore import noise
from jaxscore.types import Array, Key

LABELS = 9
"""The number of labels of an image."""


def augmented(
    key: Key, images: Float[Array, "b h w c"], probability: float
) -> tuple[Float[Array, "b h w c"], Float[Array, "b 9"]]:
    """Returns the images, some of them moved, and the labels that say how.

    Each image is mirrored left to right with probability 1/2. With the given probability each, independently,
    it is mirrored upside down (in half of these cases), scaled, rotated, stretched in one direction and
    squeezed in the other, and shifted (`drawn`). What lies outside is reflected. The values between pixels
    are those of Catmull & Rom's cubic; Karras et al. use a wavelet filter there. An image whose labels are
    zero is returned as it is, to the last bit.

    Row i depends on (key, i) alone, or on key[i] if there is a key for each image.

    Source: Karras et al. 2022, appendix F.2 and table 6, with probability 0.12 for CIFAR-10, 0.15 for faces.
    Raises ValueError unless 0 <= probability <= 1.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability = {probability} must lie in 0..1")
    a = jax.vmap(lambda key: drawn(key, probability))(noise.row_keys(key, len(images)))
    return jax.vmap(moved)(images, a), jax.vmap(labels)(a)


def drawn(key: Key, probability: float) -> Float[Array, "8"]:
    """Returns a_0 ... a_7 of the paper's table 6, each of them 0 if this does not happen to the image.

    a_0, a_1    1 to mirror left to right, and upside down
    a_2         the scale is 2^(0.2 a_2), a_2 ~ N(0, 1)
    a_3         the angle of the rotation, uniform in -pi..pi
    a_4, a_5    direction, uniform in -pi..pi, and strength, N(0, 1), of the stretch by 2^(0.2 a_5)
    a_6, a_7    the shift to the right and downwards is a / 8 of the sides, a ~ N(0, 1)
    """
    happens, half, angles, normal = jax.random.split(key, 4)
    mirrored = jax.random.bernoulli(half, 0.5, (2,))
    upside_down, scaled, rotated, stretched, shifted = jax.random.uniform(happens, (5,)) < probability
    angle = jax.random.uniform(angles, (2,), minval=-jnp.pi, maxval=jnp.pi)
    z = jax.random.normal(normal, (4,))
    values = (*mirrored, z[0], angle[0], angle[1], z[1], z[2], z[3])
    chosen = (True, upside_down, scaled, rotated, stretched, stretched, shifted, shifted)
    return jnp.stack([jnp.where(each, value, 0.0) for each, value in zip(chosen, values, strict=True)])


def labels(a: Float[Array, "8"]) -> Float[Array, "9"]:
    """Returns a_0, a_1, a_2, cos a_3 - 1, sin a_3, a_5 cos a_4, a_5 sin a_4, a_6, a_7."""
    turned = (jnp.cos(a[3]) - 1, jnp.sin(a[3]), a[5] * jnp.cos(a[4]), a[5] * jnp.sin(a[4]))
    return jnp.stack([*a[:3], *turned, *a[6:]])


def moved(image: Float[Array, "h w c"], a: Float[Array, "8"]) -> Float[Array, "h w c"]:
    """Returns the image mirrored, scaled, rotated, stretched and shifted, in this order, as `drawn` says."""
    image = jnp.where(a[0] > 0, image[:, ::-1], image)
    image = jnp.where(a[1] > 0, image[::-1], image)
    height, width = image.shape[:2]
    # Each pixel of the result looks up where it was: the inverse steps, from the last to the first.
    shift = jnp.stack([a[6] * width / 8, a[7] * height / 8])
    back = _rotation(-a[3]) @ _rotation(a[4]) @ jnp.diag(2 ** (0.2 * a[5] * jnp.array([-1.0, 1.0])))
    back = 2 ** (-0.2 * a[2]) * back @ _rotation(-a[4])
    # From the middle, so that nothing is rounded where nothing moves.
    columns, rows = jnp.meshgrid(jnp.arange(width) - (width - 1) / 2, jnp.arange(height) - (height - 1) / 2)
    from_middle = jnp.stack([columns - shift[0], rows - shift[1]])
    x, y = jnp.einsum("ij,jhw->ihw", back, from_middle)
    return _looked_up(image, y + (height - 1) / 2, x + (width - 1) / 2)


def _rotation(angle: Array) -> Float[Array, "2 2"]:
    return jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])


def _looked_up(
    image: Float[Array, "h w c"], rows: Float[Array, "h w"], columns: Float[Array, "h w"]
) -> Float[Array, "h w c"]:
    """Returns the image at fractional positions, by the cubic of Catmull & Rom over 4 x 4 pixels."""
    total = jnp.zeros_like(image)
    for row, weight_of_row in _neighbours(rows, len(image)):
        for column, weight in _neighbours(columns, image.shape[1]):
            total = total + (weight_of_row * weight)[..., None] * image[row, column]
    return total


def _neighbours(position: Array, side: int) -> list[tuple[Array, Array]]:
    """Returns the four pixels around each position, reflected at the border, and their weights."""
    first = jnp.floor(position)
    t = position - first
    cubics = (
        ((2 - t) * t - 1) * t / 2,
        ((3 * t - 5) * t**2 + 2) / 2,
        ((4 - 3 * t) * t + 1) * t / 2,
        (t - 1) * t**2 / 2,
    )
    period = max(2 * side - 2, 1)
    pixel = lambda k: (first.astype(jnp.int32) + k) % period
    return [(jnp.minimum(pixel(k), period - pixel(k)), weight) for k, weight in enumerate(cubics, -1)]

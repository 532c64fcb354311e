"""Pixels on the device: bytes to numbers in 0..1, and mirror images.

Images stay bytes until they are on the device, which takes a quarter of the memory and of the transfer. The
loss calls `unit`; nothing else scales pixels.

>>> batch = np.array([[[[0], [51]]]], np.uint8)
>>> import jax
>>> unit(batch).ravel().tolist()
[0.0, 0.20000000298023224]
>>> flip(jax.random.key(1), unit(np.repeat(batch, 6, axis=0))).argmax(axis=2).ravel().tolist()
[1, 0, 1, 0, 1, 0]
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Num

from jaxscore import noise
from jaxscore.types import AnyArray, Array, Key

HIGH = np.float32(32897 / 2**23)
LOW = np.float32(1 / 255 - 32897 / 2**23)
"""1/255 in two parts: its first 16 binary digits, and the rest."""


def unit(images: Num[AnyArray, "*shape"]) -> Num[AnyArray, "*shape"]:
    """Returns bytes 0..255 as float32 in 0..1, and floats as they are; for NumPy and JAX arrays."""
    if images.dtype != np.uint8:
        return images
    if isinstance(images, np.ndarray):
        return images / np.float32(255)
    # XLA turns a division by 255 into a product with 1/255, and half of the numbers differ from NumPy's. Here
    # the first product is exact, and the second one lies below the last digits of the first.
    x = images.astype(jnp.float32)
    return x * HIGH + x * LOW


def flip(key: Key, images: Num[AnyArray, "b h w c"]) -> Num[Array, "b h w c"]:
    """Returns the images, each mirrored left to right with probability 1/2.

    Whether image i is mirrored depends on the key and on i alone, or on key[i] if there is a key for each
    image. Bytes and floats are mirrored alike.
    """
    mirrored = noise.rademacher(key, (len(images), 1, 1, 1)) > 0
    return jnp.where(mirrored, images[:, :, ::-1], images)

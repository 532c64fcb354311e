"""Images that do not fit in memory: read when they are asked for, by number, as an array would be.

>>> x = Images(lambda number: np.full((4, 4, 1), number, np.uint8), (300, 4, 4, 1))
>>> len(x), x[[0, 255]].max(axis=(1, 2, 3)).tolist()
(300, [0.0, 1.0])
>>> fit(np.zeros((178, 218, 3), np.uint8), crop=140, size=64).shape
(64, 64, 3)
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8

RESIDENT_BYTES = 2**30
"""What is no larger than this as float32 is held in memory; whatever is, is read when asked for."""


class DataError(Exception):
    """A data set that is not there, or not what it should be; the text says how to get it."""


class Images:
    """n images in 0..1, each read when it is asked for: `len(x)`, `x.shape`, and `x[numbers]` as of an array.

    `read(number) -> uint8 [h, w, c]` fetches one, and raises DataError, naming the file, if it cannot be
    read; `shape` is (n, h, w, c). Numbers may be an index, a slice or an array of either sign.
    """

    def __init__(self, read: Callable[[int], np.ndarray], shape: tuple[int, int, int, int]):
        self.read, self.shape = read, shape
        self._numbers = np.arange(shape[0])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, numbers) -> Float[np.ndarray, "*k h w c"]:
        wanted = self._numbers[numbers]  # IndexError beyond the end, as of an array
        images = np.empty((wanted.size, *self.shape[1:]), np.float32)
        for row, number in enumerate(wanted.flat):
            images[row] = unit(self.read(int(number)))
        return images.reshape(*wanted.shape, *self.shape[1:])


Examples = Float[np.ndarray, "n *event"] | Images
"""float32 [n, *event] in memory, or Images; `x[numbers]`, `x.shape` and `len(x)` are the same of both."""


def unit(images):
    """Bytes 0..255 as float32 in 0..1, on the host or on a device; floats as they are."""
    return images / np.float32(255) if images.dtype == np.uint8 else images


def resident(images: Images) -> Examples:
    """All of the images as one array if they are small (RESIDENT_BYTES), else as they are."""
    if 4 * np.prod(images.shape, dtype=np.int64) <= RESIDENT_BYTES:
        return images[:]
    return images


def fit(
    image: UInt8[np.ndarray, "h w c"], *, crop: int | None = None, size: int | None = None
) -> UInt8[np.ndarray, "i j c"]:
    """A square of the middle: cut out `crop` pixels, make the shorter side `size`, cut out `size` pixels.

    Bilinear, averaging when it shrinks (Pillow's). With crop = 140 and size = 64 this is CelebA, and with
    size = 96 or 128 LSUN, as in Song & Ermon 2020, appendix B.1. None leaves that part out. Raises
    DataError if the image is smaller than the crop.
    """
    if crop is not None:
        image = _middle(image, crop)
    if size is None:
        return image
    h, w, c = image.shape
    shorter = min(h, w)
    if shorter != size:
        from PIL import Image

        picture = Image.fromarray(image[..., 0] if c == 1 else image)
        picture = picture.resize(
            (round(w * size / shorter), round(h * size / shorter)), Image.Resampling.BILINEAR
        )
        image = np.asarray(picture).reshape(picture.height, picture.width, c)
    return _middle(image, size)


def require_shape(image: UInt8[np.ndarray, "h w c"], shape: tuple[int, ...], where: object) -> None:
    """Raises DataError unless the image has that shape, or none is asked for; `where` names its file."""
    if shape and image.shape != shape:
        raise DataError(f"{where} is {list(image.shape)}, not {list(shape)} as the first; choose a size")


def _middle(image: UInt8[np.ndarray, "h w c"], side: int) -> UInt8[np.ndarray, "side side c"]:
    h, w = image.shape[:2]
    if min(h, w) < side:
        raise DataError(f"an image of {h}x{w} pixels is too small for its middle {side}x{side}")
    top, left = (h - side) // 2, (w - side) // 2
    return image[top : top + side, left : left + side]

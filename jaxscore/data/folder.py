"""A folder of PNG and JPEG images, FFHQ for one, each read when it is asked for.

>>> import tempfile
>>> from PIL import Image
>>> folder = Path(tempfile.mkdtemp())
>>> Image.new("RGB", (20, 16), "white").save(folder / "one.png")
>>> load(folder, size=8).examples.shape
(1, 8, 8, 3)
"""

from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jaxscore.data.arrays import Dataset
from jaxscore.data.images import DataError, Images, fit, require_shape, resident

ENDINGS = {".png", ".jpg", ".jpeg"}

CHANNELS = {
    "1": "L",
    "L": "L",
    "LA": "L",
    "P": "RGB",
    "RGB": "RGB",
    "RGBA": "RGB",
    "CMYK": "RGB",
    "YCbCr": "RGB",
}
"""Pillow's modes of 8-bit images, and what they are read as: L is one channel, RGB three."""


def load(folder: Path, *, size: int | None = None) -> Dataset:
    """All images below the folder, sorted by path; one class for each folder that holds some.

    With `size` the shorter side is made as long, and the middle cut out; without, all must be as large
    as the first. The first also says whether they are grey or coloured. Raises DataError if there is no such
    folder or no image in it, or, when an image is read, if it is damaged or of another size, with its path.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: name one that holds .png or .jpg images")
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise DataError("images are read with pillow, which is not installed: pip install pillow") from error
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    if not paths:
        raise DataError(f"no .png or .jpg images in {folder}, nor in the folders in it")
    mode = CHANNELS.get(_mode(paths[0]), "RGB")
    event = _read(paths, mode, size, (), 0).shape
    images = Images(partial(_read, paths, mode, size, event), (len(paths), *event))
    classes = {parent: number for number, parent in enumerate(sorted({path.parent for path in paths}))}
    return Dataset(resident(images), np.array([classes[path.parent] for path in paths], np.int32))


def _mode(path: Path) -> str:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return picture.mode
    except OSError as error:
        raise DataError(f"{path} (image 0) cannot be read: {error}") from error


def _read(
    paths: list[Path], mode: str, size: int | None, event: tuple[int, ...], number: int
) -> UInt8[np.ndarray, "h w c"]:
    from PIL import Image

    path = paths[number]
    try:
        with Image.open(path) as picture:
            if picture.mode not in CHANNELS:
                raise DataError(f"{path} (image {number}) has pixels of mode {picture.mode}, not of 8 bits")
            pixels = np.asarray(picture.convert(mode))
    # What Pillow raises for files that are cut short, damaged, or bombs.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} (image {number}) cannot be read: {error}") from error
    image = fit(pixels.reshape(*pixels.shape[:2], -1), size=size)
    require_shape(image, event, f"{path} (image {number})")
    return image

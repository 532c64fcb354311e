"""A folder of PNG and JPEG images, such as FFHQ: held in memory if small, else read when asked for.

>>> import tempfile
>>> from PIL import Image
>>> folder = Path(tempfile.mkdtemp())
>>> Image.new("RGB", (20, 16), "white").save(folder / "one.png")
>>> load(folder, size=8).examples.shape
(1, 8, 8, 3)
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxscore.data.arrays import Dataset
from jaxscore.data.formats.pictures import decode, fit, mode_of
from jaxscore.data.images import DataError, Images, guarded, one_by_one, require_shape, resident

ENDINGS = {".png", ".jpg", ".jpeg"}


def load(folder: Path, *, size: int | None = None) -> Dataset:
    """All images in the folder and below, sorted by path, with one class for each folder that holds images.

    With `size`, each image is scaled so that its shorter side has this length, and cropped to the middle
    square. Without `size`, all images must have the size of the first one. The first image also determines
    whether all are read as grey or as coloured.

    Raises:
        DataError: if the folder does not exist or holds no images.
        DataError: when an image is read, with its path, if it is damaged or has another size.
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
    mode = _guarded(paths, 0, mode_of)
    event = _read(paths, mode, size, (), 0).shape
    read = one_by_one(partial(_read, paths, mode, size, event), event)
    classes = {parent: number for number, parent in enumerate(sorted({path.parent for path in paths}))}
    labels = np.array([classes[path.parent] for path in paths], np.int32)
    return Dataset(resident(Images(read, (len(paths), *event))), labels)


def _read(
    paths: list[Path], mode: str, size: int | None, event: tuple[int, ...], number: int
) -> UInt8[np.ndarray, "h w c"]:
    image = _guarded(paths, number, lambda content: fit(decode(content, mode), size=size))
    require_shape(image, event, f"{paths[number]} (image {number})")
    return image


def _guarded(paths: list[Path], number: int, function: Callable[[bytes], Any]) -> Any:
    """function(content of file `number`). Raises DataError with path and number if the function fails."""
    path = paths[number]
    return guarded(f"{path} (image {number})", lambda: function(path.read_bytes()))

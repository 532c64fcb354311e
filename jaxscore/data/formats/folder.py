"""A folder of PNG and JPEG images, FFHQ for one, each read when it is asked for.

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
    """All images below the folder, sorted by path; one class for each folder that holds some.

    With `size` the shorter side is made as long, and the middle cut out; without, all must be as large
    as the first. The first also says whether they are grey or coloured. Raises DataError if there is no such
    folder or no image in it, or, when an image is read, if it is damaged or of another size, with its path.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: name one that holds .png or .jpg images")
    try:
        import PIL  # noqa: F401
    except ImportError:
        missing = "images are read with pillow, which is not installed: pip install 'jaxscore[data]'"
        raise DataError(missing) from None
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
    """function of what is in file `number`; DataError, with its path and number, if that cannot be."""
    path = paths[number]
    return guarded(f"{path} (image {number})", lambda: function(path.read_bytes()))

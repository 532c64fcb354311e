"""A folder of pictures, such as FFHQ. A picture is read when it is indexed.

>>> import tempfile
>>> from PIL import Image
>>> folder = Path(tempfile.mkdtemp())
>>> Image.new("RGB", (20, 16), "white").save(folder / "one.png")
>>> load(folder, size=8).examples.shape
(1, 8, 8, 3)
"""

import os
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxscore.data.arrays import Dataset
from jaxscore.data.checks import require_bytes
from jaxscore.data.formats.pictures import SIGNATURE, decode, fit, mode_of
from jaxscore.data.images import (
    DataError,
    Images,
    evenly,
    guarded,
    one_by_one,
    require_shape,
    resident,
)

ENDINGS = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif")

HEADERS = 10_000
"""Largest number of files whose headers decide between grey and colour; it bounds the time that takes."""


def load(folder: Path, *, size: int | None = None) -> Dataset:
    """Returns all pictures below the folder, sorted by path. Each subfolder with pictures is a class.

    The pictures are read as viewers show them (`pictures.decode`): turned as their EXIF data say, and
    composited on white where they are transparent. With `size`, the shorter side is scaled to `size` and the
    middle square is cut out. Without it, all pictures must have the size of the first one.

    All pictures are RGB if any is in colour, otherwise grey. Beyond HEADERS files, HEADERS of them at even
    distances decide. Linked folders are followed. Hidden files and folders (`.name`), `__MACOSX` and files
    with other endings than ENDINGS are skipped; one warning counts them.

    Raises DataError if there is no such folder, if no picture is in it, or if all bytes are 0 or 1. Indexing
    raises DataError, with the path, if a picture is damaged or has another size.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: name one that holds .png or .jpg images")
    try:
        import PIL  # noqa: F401
    except ImportError:
        missing = "images are read with pillow, which is not installed: pip install 'jaxscore[data]'"
        raise DataError(missing) from None
    skipped: Counter[str] = Counter()
    paths = sorted(_walk(str(folder), skipped), key=lambda path: path.split(os.sep))
    found = ", ".join(f"{count} {kind}" for kind, count in skipped.most_common(8))
    if not paths:
        raise DataError(
            f"no .png or .jpg images in {folder}, nor in the folders in it" + (found and f"; skipped {found}")
        )
    if skipped:
        warnings.warn(f"{folder}: {len(paths)} pictures; skipped {found}", stacklevel=3)
    mode = _mode(paths)
    event = _read(paths, mode, size, (), 0).shape
    read = one_by_one(partial(_read, paths, mode, size, event), event)
    parents = [os.path.dirname(path) for path in paths]
    order = sorted(set(parents), key=lambda path: path.split(os.sep))
    classes = {parent: number for number, parent in enumerate(order)}
    examples = resident(Images(read, (len(paths), *event), files=paths))
    looked_at = evenly(len(paths), len(paths) if examples.in_memory else 256)
    require_bytes(folder, (examples.take(number[None]) for number in looked_at))
    return Dataset(examples, np.array([classes[parent] for parent in parents], np.int32))


def _walk(folder: str, skipped: Counter[str], above: tuple[tuple[int, int], ...] = ()) -> list[str]:
    """Returns the pictures below a folder, and counts in `skipped` what else is there, by its kind.

    `above` are the device and inode of the folders around this one: a link to one of them would never end.
    """
    status = guarded(folder, os.stat, folder)
    here = (status.st_dev, status.st_ino)
    if here in above:
        skipped["linked to a folder around it"] += 1
        return []
    paths, folders = [], []
    for entry in guarded(folder, lambda: list(os.scandir(folder))):
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            skipped["hidden"] += 1
        elif entry.is_dir():
            folders.append(entry.path)
        elif entry.name.lower().endswith(ENDINGS) and entry.is_file():
            paths.append(entry.path)
        else:
            skipped[os.path.splitext(entry.name)[1].lower() or "without ending"] += 1
    return paths + [path for inner in folders for path in _walk(inner, skipped, (*above, here))]


def _mode(paths: list[str]) -> str:
    """Returns RGB if one of at most HEADERS pictures is in colour, otherwise L."""
    for number in evenly(len(paths), HEADERS):
        if _guarded(paths, int(number), mode_of, beginning=True) == "RGB":
            return "RGB"
    return "L"


def _read(
    paths: list[str], mode: str, size: int | None, event: tuple[int, ...], number: int
) -> UInt8[np.ndarray, "h w c"]:
    image = _guarded(paths, number, lambda content: fit(decode(content, mode), size=size))
    require_shape(image, event, f"{paths[number]} (image {number})")
    return image


def _guarded(
    paths: list[str], number: int, function: Callable[[bytes], Any], *, beginning: bool = False
) -> Any:
    """Returns function(content of file `number`). Raises DataError, with path and number, if that fails.

    With `beginning`, the content of a PNG file is its first 32 bytes.
    """
    path = paths[number]

    def content() -> bytes:
        with open(path, "rb", buffering=0) as file:
            first = file.read(32) if beginning else b""
            return first if first.startswith(SIGNATURE) else first + file.read()

    return guarded(f"{path} (image {number})", lambda: function(content()))

"""PNG and JPEG: between the bytes of a file and the bytes of pixels; and the square that is cut out.

>>> pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
>>> bool((decode(encode(pixels), "RGB") == pixels).all())
True
>>> fit(np.zeros((178, 218, 3), np.uint8), crop=140, size=64).shape
(64, 64, 3)
"""

import io
import struct
import zlib

import numpy as np
from jaxtyping import UInt8

from jaxscore.data.images import DataError

MODES = {
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

CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
"""What an image can be read as, and how many channels that makes."""

FORMATS = ("PNG", "JPEG")
SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}  # of PNG, by channels


def mode_of(content: bytes) -> str:
    """What an image is read as if nothing else is said: L or RGB."""
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
        return MODES.get(picture.mode, "RGB")


def decode(content: bytes, mode: str) -> UInt8[np.ndarray, "h w c"]:
    """The pixels of a PNG or JPEG file, as `mode` L, RGB or RGBA.

    Raises DataError for pixels of more than 8 bits, and whatever Pillow raises for files that are cut short
    or damaged. The checksums of PNG are looked at, which Pillow does not do; JPEG has none.
    """
    if content.startswith(SIGNATURE):
        pixels = _unfiltered(_chunks(content), CHANNELS[mode])
        if pixels is not None:
            return pixels
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
        if picture.mode not in MODES:
            raise DataError(f"has pixels of mode {picture.mode}, not of 8 bits")
        if picture.mode != mode:
            picture = picture.convert(mode)
        pixels = np.asarray(picture)
    return pixels.reshape(*pixels.shape[:2], -1)


def encode(image: UInt8[np.ndarray, "h w c"]) -> bytes:
    """A PNG file, neither filtered nor compressed, which is read several times faster than others.

    Portable Network Graphics, third edition, W3C 2025. Record files compress what they hold. Raises
    ValueError for other than 1, 3 or 4 channels.
    """
    h, w, c = image.shape
    if c not in _COLOUR_TYPES:
        raise ValueError(f"an image of {c} channels is no PNG; need 1, 3 or 4")
    filters = np.zeros((h, 1), np.uint8)  # a 0 before every row: its values are as they are
    rows = np.concatenate([filters, image.reshape(h, w * c)], axis=1)
    header = struct.pack(">IIBBBBB", w, h, 8, _COLOUR_TYPES[c], 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 0)), (b"IEND", b""))
    check = lambda kind, part: struct.pack(">I", zlib.crc32(part, zlib.crc32(kind)))
    chunks = (struct.pack(">I", len(part)) + kind + part + check(kind, part) for kind, part in parts)
    return SIGNATURE + b"".join(chunks)


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


def _chunks(content: bytes) -> dict[bytes, bytes]:
    """The chunks of a PNG file by their kind. Raises ValueError if one's checksum is another."""
    chunks: dict[bytes, bytes] = {}
    place, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        if place + 12 > len(content):
            raise ValueError("the file is cut short")
        length, kind = struct.unpack_from(">I4s", content, place)
        part, check = content[place + 8 : place + 8 + length], content[place + 8 + length :][:4]
        if check != struct.pack(">I", zlib.crc32(part, zlib.crc32(kind))):
            raise ValueError(f"its part {kind!r} is cut short or damaged")
        chunks[kind] = chunks.get(kind, b"") + part
        place += 12 + length
    return chunks


def _unfiltered(chunks: dict[bytes, bytes], channels: int) -> UInt8[np.ndarray, "h w c"] | None:
    """The pixels of a PNG file whose rows are as they are; None for all that Pillow has to read.

    Raises ValueError if there are more or fewer than the header says, which Pillow lets pass.
    """
    w, h, *kind = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    if kind != [8, _COLOUR_TYPES[channels], 0, 0, 0]:
        return None
    size = h * (1 + w * channels)
    data = chunks[b"IDAT"]
    # Deflate makes at most 1,032 bytes of one: what would be more is not tried, however large it says it is.
    content = zlib.decompressobj().decompress(data, size + 1) if size <= 1032 * len(data) else b""
    if not w or not h or len(content) != size:
        raise ValueError(f"its data are not those of {h}x{w} pixels")
    rows = np.frombuffer(content, np.uint8).reshape(h, 1 + w * channels)
    return None if rows[:, 0].any() else rows[:, 1:].reshape(h, w, channels)


def _middle(image: UInt8[np.ndarray, "h w c"], side: int) -> UInt8[np.ndarray, "side side c"]:
    h, w = image.shape[:2]
    if min(h, w) < side:
        raise DataError(f"an image of {h}x{w} pixels is too small for its middle {side}x{side}")
    top, left = (h - side) // 2, (w - side) // 2
    return image[top : top + side, left : left + side]

"""PNG and JPEG files to pixels and back, and squares cut out of images.

Unfiltered PNG files are read here, all others by Pillow, which takes 3 to 5 times as long for small images.

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
"""Mode that an image is read as (L: one channel, RGB: three), by its mode in Pillow."""

CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
"""Number of channels of each mode that an image can be read as."""

FORMATS = ("PNG", "JPEG")
SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}  # PNG colour type by number of channels


def mode_of(content: bytes) -> str:
    """Returns the mode that an image is read as by default: L or RGB."""
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
        return MODES.get(picture.mode, "RGB")


def decode(content: bytes, mode: str) -> UInt8[np.ndarray, "h w c"]:
    """Returns the pixels of a PNG or JPEG file in `mode` L, RGB or RGBA.

    Verifies every checksum of a PNG file; JPEG has none. Raises DataError for pixels of more than 8 bits,
    ValueError for a damaged PNG file, and what Pillow raises for other damaged files.
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
    """Returns a PNG file without filters and compression, which `decode` reads several times faster.

    Record files compress their content themselves. Raises ValueError unless there are 1, 3 or 4 channels.
    Source: Portable Network Graphics, third edition, W3C 2025.
    """
    h, w, c = image.shape
    if c not in _COLOUR_TYPES:
        raise ValueError(f"an image of {c} channels is no PNG; need 1, 3 or 4")
    filters = np.zeros((h, 1), np.uint8)  # 0 before a row: no filter
    rows = np.concatenate([filters, image.reshape(h, w * c)], axis=1)
    header = struct.pack(">IIBBBBB", w, h, 8, _COLOUR_TYPES[c], 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 0)), (b"IEND", b""))
    check = lambda kind, part: struct.pack(">I", zlib.crc32(part, zlib.crc32(kind)))
    chunks = (struct.pack(">I", len(part)) + kind + part + check(kind, part) for kind, part in parts)
    return SIGNATURE + b"".join(chunks)


def fit(
    image: UInt8[np.ndarray, "h w c"], *, crop: int | None = None, size: int | None = None
) -> UInt8[np.ndarray, "i j c"]:
    """Returns a square from the middle of the image.

    Three steps: cut out the middle `crop` pixels, scale the shorter side to `size`, cut out the middle
    `size` pixels. None skips the steps with that name. Pillow's bilinear filter scales, and averages when
    it shrinks. crop = 140 and size = 64 give the CelebA images of Song & Ermon 2020, appendix B.1; size = 96
    or 128 the LSUN images. Raises DataError if the image is smaller than the crop.
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
    """Returns the chunks of a PNG file by kind. Raises ValueError if a checksum is wrong."""
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
    """Returns the pixels of a PNG file with unfiltered rows; None for files that Pillow must read.

    Raises ValueError if there are more or fewer pixels than the header says, which Pillow accepts.
    """
    w, h, *kind = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    if kind != [8, _COLOUR_TYPES[channels], 0, 0, 0]:
        return None
    size = h * (1 + w * channels)
    data = chunks[b"IDAT"]
    # Deflate expands a byte to at most 1,032: a header that claims more must not reserve the memory.
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

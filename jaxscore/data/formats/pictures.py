"""Files of pictures to the pixels that viewers show, PNG files from pixels, and squares cut out of images.

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
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16

from jaxscore.data.images import DataError

GREY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
"""Modes of Pillow that are read as grey and as colour. Others have more than 16 bits, or floats."""

CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
"""Number of channels of each mode that an image can be read as."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}  # PNG colour type by number of channels
_TURNED = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}  # where an orientation may be


def mode_of(content: bytes) -> str:
    """Returns the mode that a picture is read as by default: L or RGB. The beginning of a PNG file is enough.

    Raises ValueError for content that is no picture, and what Pillow raises for a damaged one.
    """
    if content.startswith(SIGNATURE) and len(content) > 25:
        return "L" if content[25] in (0, 4) else "RGB"  # colour type 4: grey with alpha
    with _open(content) as picture:
        return "L" if picture.mode in GREY else "RGB"


def decode(content: bytes, mode: str) -> UInt8[np.ndarray, "h w c"]:
    """Returns the pixels of a picture in `mode` L, RGB or RGBA, as viewers show them.

    The orientation in the EXIF data is applied. Transparent pixels are composited on white, unless `mode`
    is RGBA. Values v of 16 bits become round(v / 257). An animation or a TIFF file of several pages gives
    its first picture. FORMATS lists the formats; the content decides, not the name of the file.

    Verifies every checksum of a PNG file; JPEG has none. Raises DataError for pixels of more than 16 bits,
    ValueError for a damaged PNG file and for content that is no picture, and what Pillow raises for other
    damaged files.
    """
    if content.startswith(SIGNATURE):
        pixels = _unfiltered(_chunks(content), CHANNELS[mode])
        if pixels is not None:
            return pixels
    with _open(content) as picture:
        if picture.mode not in GREY + COLOUR:
            raise DataError(f"has pixels of mode {picture.mode}, not of 8 or 16 bits")
        picture = _upright(_of_eight_bits(picture, content))
        if mode != "RGBA" and picture.has_transparency_data:
            picture = _on_white(picture)
        if picture.mode != mode:
            picture = picture.convert(mode)
        pixels = np.asarray(picture)
    return pixels.reshape(*pixels.shape[:2], -1)


def _open(content: bytes) -> Any:
    """Returns Pillow's picture. Raises ValueError that says how the content begins if it is no picture."""
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        begins = f"its {len(content)} bytes begin with {content[:20]!r}, unlike {', '.join(FORMATS)}"
        raise ValueError(begins if content else "it is empty") from None


def _of_eight_bits(picture: Any, content: bytes) -> Any:
    """Returns the picture with 16 bits scaled to 8; other pictures are returned as they are.

    Pillow drops the low bytes of 16-bit colour. The file is decoded again, with the order of the two bytes
    exchanged, to find them.
    """
    from PIL import Image

    if picture.mode.startswith("I;16"):
        scaled = Image.fromarray(_scaled(np.asarray(picture)))
        scaled.info = picture.info
        return scaled
    tile = picture.tile[0] if len(picture.tile) == 1 else None
    whole = tile and tile.args
    raw = whole[0] if isinstance(whole, tuple) else whole
    if not isinstance(raw, str) or ";16" not in raw:
        return picture
    exchanged = "RGBA" if raw == "LA;16B" else raw[:-1] + {"B": "L", "L": "B", "N": "B"}[raw[-1]]
    with _open(content) as other:
        args = (exchanged, *whole[1:]) if isinstance(whole, tuple) else exchanged
        other.tile = [tile._replace(args=args)]
        low = np.asarray(other).astype(np.uint16)
    high = np.asarray(picture).astype(np.uint16)
    if raw == "LA;16B":  # as RGBA of 8 bits: the two bytes of grey, and the two bytes of alpha
        high, low = low[..., [0, 0, 0, 2]], low[..., [1, 1, 1, 3]]
    scaled = Image.fromarray(_scaled(high << 8 | low))
    scaled.info = picture.info
    return scaled


def _scaled(values: UInt16[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Returns v * 255 / 65535, rounded."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _upright(picture: Any) -> Any:
    """Returns the picture turned as its EXIF data say. Most files have none, and to look for them is slow."""
    from PIL import ImageOps

    picture.load()  # some PNG files have their EXIF data at the end
    return ImageOps.exif_transpose(picture) if picture.info.keys() & _TURNED else picture


def _on_white(picture: Any) -> Any:
    """Returns the picture composited on white, which is what most viewers and browsers show."""
    from PIL import Image

    above = picture.convert("RGBA")
    white = Image.new("RGBA", above.size, "white")
    return Image.alpha_composite(white, above).convert("RGB")


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
    plain = set(chunks) == {b"IHDR", b"IDAT", b"IEND"}  # others may turn it or make parts transparent
    if not plain or kind != [8, _COLOUR_TYPES[channels], 0, 0, 0]:
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

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxscore.data import DataError
from jaxscore.data.formats import pictures

GENERATOR = np.random.default_rng(0)


def saved(pixels, kind="PNG", **options):
    """What Pillow makes of the pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def noise_of(*shape):
    return GENERATOR.integers(0, 256, shape).astype(np.uint8)


# Files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
def test_what_is_encoded_is_a_png_for_anybody(mode, channels):
    pixels = noise_of(5, 7, channels)
    content = pictures.encode(pixels)
    with Image.open(io.BytesIO(content)) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", mode, (7, 5))
        np.testing.assert_array_equal(np.asarray(picture).reshape(5, 7, channels), pixels)
    np.testing.assert_array_equal(pictures.decode(content, mode), pixels)


def test_two_channels_are_no_png():
    with pytest.raises(ValueError, match="2 channels"):
        pictures.encode(noise_of(4, 4, 2))


def test_unfiltered_files_are_read_without_pillow(monkeypatch):
    pixels = noise_of(6, 5, 3)
    ours, theirs = pictures.encode(pixels), saved(pixels)
    monkeypatch.setattr(Image, "open", None)
    np.testing.assert_array_equal(pictures.decode(ours, "RGB"), pixels)
    for content, mode in ((theirs, "RGB"), (ours, "L")):  # Pillow's own files, and other modes
        with pytest.raises(TypeError, match="not callable"):
            pictures.decode(content, mode)


@pytest.mark.parametrize(("mode", "channels"), [("L", ()), ("RGB", (3,)), ("RGBA", (4,))])
def test_files_of_others_are_read(mode, channels):
    ramp = np.add.outer(np.arange(9), np.arange(8)) * 12  # which PNG filters, by row and by column
    pixels = np.multiply.outer(ramp, np.ones(channels)).astype(np.uint8)
    np.testing.assert_array_equal(pictures.decode(saved(pixels), mode), pixels.reshape(9, 8, -1))


def test_the_mode_that_is_asked_for_is_made():
    grey, colours = noise_of(4, 4), noise_of(4, 4, 3)
    found = pictures.decode(saved(grey), "RGB")
    np.testing.assert_array_equal(found, np.repeat(grey[..., None], 3, axis=2))
    assert pictures.decode(saved(colours, "JPEG"), "L").shape == (4, 4, 1)
    assert [pictures.mode_of(saved(pixels)) for pixels in (grey, colours)] == ["L", "RGB"]


def test_more_than_sixteen_bits_are_refused():
    with pytest.raises(DataError, match="mode F, not of 8 or 16 bits"):
        pictures.decode(saved(np.zeros((4, 4), np.float32), "TIFF"), "L")


# What viewers show --------------------------------------------------------------------------------

CORNER = np.zeros((4, 6), np.uint8)
CORNER[0, 1] = 255  # neither on a diagonal nor in the middle: each turn puts it elsewhere


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "shown"),
    [
        (1, CORNER),
        (2, CORNER[:, ::-1]),
        (3, CORNER[::-1, ::-1]),
        (4, CORNER[::-1]),
        (5, CORNER.T),
        (6, CORNER[::-1].T),
        (7, CORNER[::-1, ::-1].T),
        (8, CORNER[:, ::-1].T),
    ],
)
def test_the_orientation_in_the_exif_data_is_applied(kind, orientation, shown):
    """EXIF 2.3, tag 274: 6 is a camera turned to its left, and the picture is turned clockwise."""
    exif = Image.Exif()
    exif[274] = orientation
    content = saved(CORNER, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(pictures.decode(content, "L")[..., 0], shown)


def test_unfiltered_files_are_turned_too():
    exif = Image.Exif()
    exif[274] = 3
    content = pictures.encode(CORNER[..., None])
    part = exif.tobytes().removeprefix(b"Exif\0\0")
    turned = content[:33] + chunk(b"eXIf", part) + content[33:]  # after the header
    np.testing.assert_array_equal(pictures.decode(turned, "L")[..., 0], CORNER[::-1, ::-1])


def test_transparent_pixels_are_shown_on_white():
    """The colour c with alpha a is shown as a c + (1 - a) 255; what is hidden does not appear."""
    colours = np.array([[[200, 0, 90, 0], [200, 0, 90, 51], [200, 0, 90, 255]]], np.uint8)
    expected = [[[255, 255, 255], [244, 204, 222], [200, 0, 90]]]
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        np.testing.assert_array_equal(pictures.decode(saved(colours, kind, **options), "RGB"), expected)
    np.testing.assert_array_equal(pictures.decode(pictures.encode(colours), "RGB"), expected)
    np.testing.assert_array_equal(pictures.decode(saved(colours), "RGBA"), colours)
    grey = np.array([[[100, 0], [100, 51], [100, 255]]], np.uint8)
    np.testing.assert_array_equal(pictures.decode(saved(grey), "L")[..., 0], [[255, 224, 100]])


def test_transparent_entries_are_shown_on_white():
    """A palette has transparent colours, and a grey picture has one transparent value."""
    file = io.BytesIO()
    picture = Image.new("P", (2, 1))
    picture.putpalette([9, 8, 7, 200, 0, 90])
    picture.putpixel((1, 0), 1)
    picture.save(file, "PNG", transparency=0)
    np.testing.assert_array_equal(pictures.decode(file.getvalue(), "RGB"), [[[255] * 3, [200, 0, 90]]])
    for kind in (np.array([[0, 7]], np.uint8), np.array([[[0, 0, 0], [7, 7, 7]]], np.uint8)):
        key = 0 if kind.ndim == 2 else (0, 0, 0)
        content = saved(kind, transparency=key)
        np.testing.assert_array_equal(pictures.decode(content, "L")[..., 0], [[255, 7]])
    unfiltered = pictures.encode(np.array([[[0], [7]]], np.uint8))
    keyed = unfiltered[:33] + chunk(b"tRNS", b"\0\0") + unfiltered[33:]
    np.testing.assert_array_equal(pictures.decode(keyed, "L")[..., 0], [[255, 7]])


WIDE = np.array([0, 128, 129, 200, 300, 32_767, 32_768, 40_000, 65_406, 65_407, 65_535, 257], np.uint16)


def png16(pixels):
    """A PNG file of 16 bits [h, w, c]; its rows are unfiltered."""
    h, w, c = pixels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[c]
    rows = pixels.astype(">u2").reshape(h, -1).view(np.uint8)
    data = np.concatenate([np.zeros((h, 1), np.uint8), rows], axis=1).tobytes()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 16, colour, 0, 0, 0))
    return pictures.SIGNATURE + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_are_scaled_to_eight(channels):
    """v becomes round(v / 257), so 0 is 0 and 65,535 is 255. Channels 2 and 4 are alpha, opaque."""
    pixels = np.stack([WIDE, WIDE[::-1], np.roll(WIDE, 5), WIDE][:channels], axis=-1)[None]
    if channels in (2, 4):
        pixels[..., -1] = 65_535
    shown = pixels[..., : 3 if channels > 2 else 1]
    mode = "RGB" if channels > 2 else "L"
    assert pictures.mode_of(png16(pixels)) == mode
    np.testing.assert_array_equal(pictures.decode(png16(pixels), mode), np.round(shown / 257))


def test_sixteen_bits_of_tiff_and_of_alpha():
    grey = WIDE[None]
    np.testing.assert_array_equal(pictures.decode(saved(grey, "TIFF"), "L")[..., 0], np.round(grey / 257))
    half = np.array([[[0, 0, 0, 32_768], [65_535, 0, 0, 0]]], np.uint16)
    # 32,768 / 257 = 127.5 is rounded up: 128 / 255 of black on white is 127.
    np.testing.assert_array_equal(pictures.decode(png16(half), "RGB"), [[[127] * 3, [255] * 3]])


@pytest.mark.parametrize("content", [b"", b"text", b"\0\5\x16\7\0\2" + bytes(90)])
def test_what_is_no_picture_says_how_it_begins(content):
    for read in (pictures.mode_of, lambda content: pictures.decode(content, "L")):
        with pytest.raises(ValueError, match=r"it is empty|begin with b'") as caught:
            read(content)
        assert "BytesIO" not in str(caught.value)


# Damage -------------------------------------------------------------------------------------------


def chunk(kind, part):
    return struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))


def png(width, height, data):
    """A grey PNG file with these sizes and data, whatever the data are of."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return pictures.SIGNATURE + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("filtered", [False, True])
def test_a_flipped_bit_in_a_png_is_noticed(filtered):
    pixels = noise_of(6, 6, 3)
    content = saved(pixels) if filtered else pictures.encode(pixels)
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 16
        # What a decoder raises is its own affair; `guarded` makes one error of them all.
        with pytest.raises(Exception):  # noqa: B017, PT011
            pictures.decode(bytes(damaged), "RGB")


def test_sizes_that_the_data_do_not_have_are_refused():
    row = zlib.compress(bytes(5))
    assert pictures.decode(png(4, 1, row), "L").shape == (1, 4, 1)
    for width, height in ((4, 2), (5, 1), (2**31 - 1, 2**31 - 1), (0, 1)):
        with pytest.raises((OSError, ValueError, SyntaxError, Image.DecompressionBombError)):
            pictures.decode(png(width, height, row), "L")


# Squares of the middle ----------------------------------------------------------------------------


def gradient(h, w):
    """Bytes that say where they are: the row, the column, and 7."""
    rows, columns = np.mgrid[:h, :w]
    return np.stack([rows, columns, np.full((h, w), 7)], axis=-1).astype(np.uint8)


def test_the_crop_is_the_middle():
    cut = pictures.fit(gradient(218, 178), crop=140)
    np.testing.assert_array_equal(cut, gradient(218, 178)[39:179, 19:159])


def test_the_size_is_that_of_the_shorter_side():
    """The longer side is cut."""
    small = pictures.fit(gradient(100, 200), size=50)
    assert small.shape == (50, 50, 3)
    # Halved: pixel i is the mean of rows 2 i and 2 i + 1 or near, columns from 50 on; rounded to bytes.
    np.testing.assert_allclose(small[..., 0], np.arange(50)[:, None] * 2 + 0.5 + np.zeros(50), atol=1)
    np.testing.assert_allclose(small[..., 1], np.arange(50)[None] * 2 + 50.5 + np.zeros((50, 1)), atol=1)
    np.testing.assert_array_equal(small[..., 2], 7)


def test_celeb_a_is_cropped_before_it_is_resized():
    cut = pictures.fit(gradient(218, 178), crop=140, size=64)
    assert cut.shape == (64, 64, 3)
    # 140 / 64 source pixels to each: the first is centred 1.09 pixels into the crop.
    np.testing.assert_allclose(cut[:, 0, 0], 39 + (np.arange(64) + 0.5) * 140 / 64 - 0.5, atol=1)
    np.testing.assert_allclose(cut[0, :, 1], 19 + (np.arange(64) + 0.5) * 140 / 64 - 0.5, atol=1)


def test_grey_images_stay_grey_and_small_ones_are_enlarged():
    assert pictures.fit(gradient(9, 8)[..., :1], size=16).shape == (16, 16, 1)


def test_of_the_right_size_they_are_left_alone():
    np.testing.assert_array_equal(pictures.fit(gradient(8, 8), size=8), gradient(8, 8))
    np.testing.assert_array_equal(pictures.fit(gradient(8, 9)), gradient(8, 9))


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(DataError, match="30x178 pixels"):
        pictures.fit(gradient(30, 178), crop=140)

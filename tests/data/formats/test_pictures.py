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


def test_sixteen_bits_are_refused():
    with pytest.raises(DataError, match="not of 8 bits"):
        pictures.decode(saved(np.full((4, 4), 40_000, np.uint16)), "L")


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

import numpy as np
import pytest

from jaxscore.data import DataError, Images, images

CONTENT = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3)).astype(np.uint8)


def made(read=CONTENT.__getitem__):
    return Images(read, CONTENT.shape)


@pytest.mark.parametrize(
    "numbers",
    [
        [5, 0, 0],
        np.array([3]),
        np.array([[1, 2], [-1, -6]]),
        slice(1, 5, 2),
        slice(None),
        4,
        -1,
        np.array([], int),
        CONTENT[:, 0, 0, 0] > 99,
    ],
)
def test_images_are_indexed_as_the_array_they_make(numbers):
    found = made()[numbers]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, (CONTENT / np.float32(255))[numbers])


def test_images_have_a_length_and_a_shape():
    assert len(made()) == 6
    assert made().shape == (6, 5, 4, 3)


@pytest.mark.parametrize("numbers", [[6], [-7], 6])
def test_beyond_the_last_image_is_an_index_error(numbers):
    with pytest.raises(IndexError):
        made()[numbers]


def test_only_what_is_asked_for_is_read():
    asked = []

    def read(number):
        asked.append(number)
        return CONTENT[number]

    made(read)[[4, 1]]
    assert asked == [4, 1]


def test_small_sets_are_held_in_memory_and_large_ones_are_not(monkeypatch):
    nbytes = 4 * CONTENT.size
    monkeypatch.setattr(images, "RESIDENT_BYTES", nbytes)
    np.testing.assert_array_equal(images.resident(made()), made()[:])
    monkeypatch.setattr(images, "RESIDENT_BYTES", nbytes - 1)
    assert isinstance(images.resident(made()), Images)


def test_bytes_become_floats_in_zero_to_one():
    unit = images.unit(np.arange(256, dtype=np.uint8))
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, np.arange(256) / 255, rtol=1e-7)  # rounded once, to float32


# Squares of the middle ----------------------------------------------------------------------------


def gradient(h, w):
    """Bytes that say where they are: the row, the column, and 7."""
    rows, columns = np.mgrid[:h, :w]
    return np.stack([rows, columns, np.full((h, w), 7)], axis=-1).astype(np.uint8)


def test_the_crop_is_the_middle():
    cut = images.fit(gradient(218, 178), crop=140)
    np.testing.assert_array_equal(cut, gradient(218, 178)[39:179, 19:159])


def test_the_size_is_that_of_the_shorter_side_and_the_longer_is_cut():
    small = images.fit(gradient(100, 200), size=50)
    assert small.shape == (50, 50, 3)
    # Halved: pixel i is the mean of rows 2 i and 2 i + 1 or near, columns from 50 on; rounded to bytes.
    np.testing.assert_allclose(small[..., 0], np.arange(50)[:, None] * 2 + 0.5 + np.zeros(50), atol=1)
    np.testing.assert_allclose(small[..., 1], np.arange(50)[None] * 2 + 50.5 + np.zeros((50, 1)), atol=1)
    np.testing.assert_array_equal(small[..., 2], 7)


def test_celeb_a_is_cropped_before_it_is_resized():
    cut = images.fit(gradient(218, 178), crop=140, size=64)
    assert cut.shape == (64, 64, 3)
    # 140 / 64 source pixels to each: the first is centred 1.09 pixels into the crop.
    np.testing.assert_allclose(cut[:, 0, 0], 39 + (np.arange(64) + 0.5) * 140 / 64 - 0.5, atol=1)
    np.testing.assert_allclose(cut[0, :, 1], 19 + (np.arange(64) + 0.5) * 140 / 64 - 0.5, atol=1)


def test_grey_images_keep_their_one_channel_and_small_ones_are_enlarged():
    assert images.fit(gradient(9, 8)[..., :1], size=16).shape == (16, 16, 1)


def test_of_the_right_size_they_are_left_alone():
    np.testing.assert_array_equal(images.fit(gradient(8, 8), size=8), gradient(8, 8))
    np.testing.assert_array_equal(images.fit(gradient(8, 9)), gradient(8, 9))


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(DataError, match="30x178 pixels"):
        images.fit(gradient(30, 178), crop=140)


def test_a_shape_that_is_not_asked_for_names_its_image():
    images.require_shape(gradient(4, 4), (), "a.png")
    images.require_shape(gradient(4, 4), (4, 4, 3), "a.png")
    with pytest.raises(DataError, match=r"a\.png is \[4, 4, 3\], not \[4, 5, 3\]"):
        images.require_shape(gradient(4, 4), (4, 5, 3), "a.png")

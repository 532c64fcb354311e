from unittest import mock

import numpy as np
import pytest

from jaxscore.data import DataError, Images, images

CONTENT = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3)).astype(np.uint8)


def made(read=CONTENT.__getitem__):
    return Images(read, CONTENT.shape)


NUMBERS = [[5, 0, 0], np.array([3]), np.array([[1, 2], [-1, -6]]), np.array([], int)]
NUMBERS += [slice(1, 5, 2), slice(None), 4, -1, CONTENT[:, 0, 0, 0] > 99]


@pytest.mark.parametrize("numbers", NUMBERS)
def test_images_are_indexed_as_the_array_they_make(numbers):
    np.testing.assert_array_equal(made()[numbers], (CONTENT / np.float32(255))[numbers], strict=True)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        *((beyond, None) for beyond in ([6], [-7], 6)),
        *((of_pixels, "by their number alone") for of_pixels in ((0, 0), (..., 0), (slice(None), 0))),
    ],
)
def test_neither_pixels_nor_images_beyond_the_last_are_indexed(numbers, said):
    with pytest.raises(IndexError, match=said):
        made()[numbers]


def test_images_become_an_array_where_one_is_asked_for():
    expected = CONTENT / np.float32(255)
    np.testing.assert_array_equal(np.asarray(made()), expected, strict=True)
    assert (len(made()), made().shape, made().dtype) == (6, expected.shape, expected.dtype)
    assert np.asarray(made(), float).dtype == float
    np.testing.assert_array_equal(np.stack(list(made())), expected)
    with pytest.raises(ValueError, match="a copy"):
        np.array(made(), copy=False)


def test_only_what_is_asked_for_is_read_one_after_another():
    read = mock.Mock(side_effect=CONTENT.__getitem__)
    lazy = Images(images.one_by_one(read, CONTENT.shape[1:]), CONTENT.shape)
    assert lazy[[4, 1]].shape == (2, 5, 4, 3)
    assert read.mock_calls == [mock.call(4), mock.call(1)]
    np.testing.assert_array_equal(lazy.take(np.array([2, 2])), CONTENT[[2, 2]])


def test_floats_stay_what_they_are():
    floats = np.random.default_rng(1).random((3, 2, 2, 1), np.float32)
    lazy = Images(floats.__getitem__, floats.shape)
    np.testing.assert_array_equal(lazy[[2, 0]], floats[[2, 0]])
    assert lazy.take(np.array([1])).dtype == np.float32


def test_small_sets_are_held_in_memory_and_large_ones_are_not(monkeypatch):
    for limit, held in ((4 * CONTENT.size, True), (4 * CONTENT.size - 1, False)):
        monkeypatch.setattr(images, "RESIDENT_BYTES", limit)
        lazy = made()
        assert images.fits(lazy) == held
        assert images.fits(lazy[:])  # an array is there already
        found = images.resident(lazy)
        assert found.in_memory == (found is not lazy) == held
        assert found.take(np.array([0])).dtype == np.uint8
        np.testing.assert_array_equal(found[:], lazy[:])


def test_more_than_half_of_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(images.os, "sysconf", lambda name: 100)
    images.require_memory("a.npz", 5000, "map it")
    with pytest.raises(DataError, match=r"a\.npz would be read into memory.*; map it"):
        images.require_memory("a.npz", 5001, "map it")


def test_whatever_goes_wrong_is_a_line_with_the_file_once():
    fail, grey = RuntimeError("two\n lines"), DataError("a.png is grey")
    for where, error, expected in (
        ("a.png", fail, "a.png cannot be read: two lines"),
        ("a.png", grey, "a.png is grey"),
        ("folder", grey, "folder: a.png is grey"),
    ):
        with pytest.raises(DataError, match=f"^{expected}$"):
            images.guarded(where, mock.Mock(side_effect=error))
    assert images.guarded("a.png", divmod, 7, 2) == (3, 1)


def test_a_shape_that_is_not_asked_for_names_its_image():
    images.require_shape(CONTENT[0, :4], (), "a.png")
    images.require_shape(CONTENT[0, :4], (4, 4, 3), "a.png")
    with pytest.raises(DataError, match=r"a\.png is \[4, 4, 3\], not \[4, 5, 3\]"):
        images.require_shape(CONTENT[0, :4], (4, 5, 3), "a.png")

import itertools

import numpy as np
import pytest

from jaxscore.data import DataError, checks


@pytest.mark.parametrize("highest", [0, 1])
def test_bytes_of_0_and_1_are_refused_with_the_remedy(highest):
    said = rf"^a\.npz: images are bytes from 0 to {highest}, .*multiply them by 255, or save them as floats"
    with pytest.raises(DataError, match=said):
        checks.require_bytes("a.npz", [np.zeros(4, np.uint8), np.full(4, highest, np.uint8)])


def test_bytes_are_read_until_one_exceeds_1():
    checks.require_bytes("a.npz", itertools.chain([np.zeros(1, np.uint8)], itertools.repeat(np.uint8([2]))))


@pytest.mark.parametrize(
    ("lowest", "highest", "said"),
    [
        (-1, 1, r"run from -1 to 1, not in 0\.\.1; save \(images \+ 1\) / 2"),
        (0, 1.0000001, r"run from 0 to 1\.0000001, not in 0\.\.1; save numpy\.clip\(images, 0, 1\)"),
        (0, 255, r"run from 0 to 255, .*divide them by 255, or save them as numpy\.uint8"),
        (3, 40_000, "run from 3 to 40000, .*divide them by 65535"),
        (-3, 2, "run from -3 to 2, .*scale them"),
        (0, np.inf, "run from 0 to inf, .*remove what is not finite"),
        (np.nan, 1, "run from nan to nan, .*remove what is not finite"),
    ],
)
def test_another_range_is_named_with_its_remedy(lowest, highest, said):
    with pytest.raises(DataError, match=f"^a: images {said}"):
        checks.require_unit("a", [np.array([highest]), np.array([lowest, highest])])
    checks.require_unit("a", [np.zeros(2), np.ones(2)])


@pytest.mark.parametrize("shape", [(9, 3, 32, 32), (9, 1, 28, 28), (9, 4, 8, 6), (1, 2, 8, 8)])
def test_channels_first_is_refused_with_the_transpose(shape):
    images = np.zeros(shape)
    with pytest.raises(DataError, match=r"channels first; save numpy\.transpose\(images, \(0, 2, 3, 1\)\)$"):
        checks.require_layout("a", images)
    checks.require_layout("a", np.transpose(images, (0, 2, 3, 1)))


@pytest.mark.parametrize("shape", [(9, 3, 32, 3), (3, 32, 32), (9, 4, 4, 1), (1, 1, 1, 1), (5, 8, 8, 8)])
def test_channels_last_passes(shape):
    checks.require_layout("a", np.zeros(shape))


# Class numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 1, -1], "label -1 is no number of a class; .*numpy.unique"),
        ([0, np.nan, 1], "label nan is no"),
        ([0, np.inf, 1], "label inf is no"),
        ([0, 2**40, 1], "label 1099511627776 is no"),
        ([0.0, 2.0**40, 1.0], "label 1099511627776 is no"),
        (np.array([0, 2**64 - 1, 1], np.uint64), "label 18446744073709551615 is no"),
        ([0, 1.9, 1], "label 1.9 is no"),
        ([0, 2**20, 1], "label 1048576 is no"),
        (["cat", "dog", "cat"], r"labels are <U3\[3\], not numbers; number the classes with numpy\.unique"),
        (np.eye(3), r"labels are float64\[3, 3\], .*save labels\.argmax\(axis=1\)"),
        ([[0], [1], [2]], r"labels are int64\[3, 1\], .*save labels\[:, 0\]"),
        ([0, 1], r"labels are int64\[2\], not a number per image; .*\[3\]"),
        (np.int32(1), r"labels are int32\[\]"),
        (np.zeros((3, 2, 2)), r"labels are float64\[3, 2, 2\]"),
        ([1j, 1, 0], r"labels are complex128\[3\]"),
    ],
)
def test_labels_that_are_no_class_numbers_are_refused(labels, said):
    with pytest.raises(DataError, match=f"^a: {said}") as caught:
        checks.class_numbers("a", np.asarray(labels), 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["uint8", "int64", "uint64", "float16", "float64", ">i4"])
def test_whole_numbers_of_any_type_are_labels(kind):
    """Numbers may be left out."""
    found = checks.class_numbers("a", np.array([0, 7, 2], kind), 3)
    np.testing.assert_array_equal(found, np.array([0, 7, 2], np.int32), strict=True)
    np.testing.assert_array_equal(checks.class_numbers("a", np.array([True, False]), 2), [1, 0])


def test_vectors_of_real_numbers_do_not_look_like_labels():
    found = [checks.looks_like_labels(array) for array in (np.eye(2), np.arange(3), np.array(["a"]))]
    assert found == [True] * 3
    assert not checks.looks_like_labels(np.array([0.5, 1]))
    assert not checks.looks_like_labels(np.array([np.nan, 1]))

import numpy as np
import pytest

from jaxscore import data, mixtures
from jaxscore.data.formats import numpy_files


def test_digits_are_the_1797_digits_in_zero_to_one():
    digits = data.load("digits")
    assert digits.examples.shape == (1797, 8, 8, 1)
    assert digits.examples.dtype == np.float32
    np.testing.assert_array_equal(np.unique(digits.examples), np.arange(17, dtype=np.float32) / 16)
    assert digits.labels.shape == (1797,)
    assert set(digits.labels) == set(range(10))


def test_toy_draws_a_mixture_and_labels_its_modes():
    mixture = mixtures.two_modes()
    toy = data.toy(mixture, 500, seed=1)
    assert toy.examples.shape == (500, 2)
    # Eight apart, std 0.5: the nearest mean made it.
    nearest = np.linalg.norm(toy.examples[:, None] - np.asarray(mixture.means), axis=2).argmin(axis=1)
    np.testing.assert_array_equal(toy.labels, nearest)
    np.testing.assert_array_equal(data.toy(mixture, 500, seed=1).examples, toy.examples)
    assert not np.array_equal(data.toy(mixture, 500, seed=2).examples, toy.examples)


# Files of one's own ---------------------------------------------------------------------------------


def test_npz_of_bytes_is_scaled_and_of_floats_is_kept(tmp_path):
    images, labels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8), np.array([3, 1, 2, 0])
    np.savez(tmp_path / "bytes.npz", images=images, labels=labels)
    loaded = data.load(f"npz:{tmp_path / 'bytes.npz'}", split="all")
    assert loaded.examples.shape == (4, 8, 8, 1)
    assert loaded.examples.dtype == np.float32
    np.testing.assert_allclose(loaded.examples[:][..., 0], images / 255, rtol=1e-6)
    np.testing.assert_array_equal(loaded.labels, labels)

    floats = np.random.default_rng(0).uniform(size=(4, 8, 6, 3))
    np.savez_compressed(tmp_path / "floats.npz", images=floats)
    loaded = data.from_npz(tmp_path / "floats.npz")
    np.testing.assert_array_equal(loaded.examples, floats.astype(np.float32))
    np.testing.assert_array_equal(loaded.labels, np.zeros(4))


def test_npy_is_images_without_labels(tmp_path):
    images = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    np.save(tmp_path / "a.npy", images)
    loaded = data.load(f"npz:{tmp_path / 'a.npy'}")
    np.testing.assert_array_equal(loaded.examples.take(np.arange(4))[..., 0], images)
    np.testing.assert_array_equal(loaded.labels, np.zeros(4))
    np.save(tmp_path / "a.npy", images.transpose(0, 2, 1)[:, :5])  # in Fortran's order
    found = data.from_npz(tmp_path / "a.npy").examples.take(np.array([1]))
    np.testing.assert_array_equal(found[0, ..., 0], images[1].T[:5])


SAVE = {
    "a.npz": lambda path, images: np.savez(path, images=images, labels=np.arange(10)),
    "a.npy": np.save,
}


@pytest.mark.parametrize("kind", ["uint8", "float32", "float64", ">f4", "float16"])
@pytest.mark.parametrize("name", SAVE)
def test_large_sets_are_mapped_and_read_when_asked_for(tmp_path, monkeypatch, name, kind):
    images = np.random.default_rng(0).random((10, 8, 6, 3)) * {"uint8": 255}.get(kind, 1)
    SAVE[name](tmp_path / name, images.astype(kind))
    small = data.from_npz(tmp_path / name)
    monkeypatch.setattr(data.images, "RESIDENT_BYTES", 0)
    large = data.from_npz(tmp_path / name)
    assert isinstance(large.examples, data.Images)
    assert not large.examples.in_memory
    assert large.examples.take(np.array([3])).dtype == {"uint8": np.uint8}.get(kind, np.float32)
    np.testing.assert_array_equal(large.examples[[9, 0, 4]], small.examples[[9, 0, 4]])
    np.testing.assert_array_equal(large.labels, small.labels)


def test_floats_are_looked_at_to_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr(numpy_files, "CHUNK", 100)
    for value in (1.5, -0.1, np.nan):
        images = np.zeros((9, 4, 4))
        images[8, 3, 3] = value
        np.save(tmp_path / "a.npy", images)
        with pytest.raises(data.DataError, match=r"a\.npy: images run from"):
            data.from_npz(tmp_path / "a.npy")


IMAGE = np.full((2, 4, 4), 0.5)
UNUSABLE = {
    "no arrays": {},
    "no images": {"pictures": IMAGE},
    "pickled objects": {"images": np.array([IMAGE[0], None], object)},
    "strings": {"images": np.full((2, 4, 4), "a")},
    "bytes as integers": {"images": np.full((2, 4, 4), 200)},
    "rank 0": {"images": np.float32(0.5)},
    "rank 2": {"images": IMAGE[0]},
    "rank 5": {"images": IMAGE[..., None, None]},
    "no examples": {"images": IMAGE[:0]},
    "too few labels": {"images": IMAGE, "labels": np.array([1])},
    "one label": {"images": IMAGE, "labels": np.int32(1)},
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_arrays_that_cannot_be_used_are_an_error_of_the_file(tmp_path, kind):
    """For files that are damaged: see formats/test_damaged.py."""
    np.savez(tmp_path / "unusable.npz", **UNUSABLE[kind])
    with pytest.raises(data.DataError, match=r"unusable\.npz"):
        data.from_npz(tmp_path / "unusable.npz")


def test_a_file_that_is_not_there_says_how_to_make_it(tmp_path):
    with pytest.raises(data.DataError, match=r"numpy\.savez"):
        data.load(f"npz:{tmp_path / 'absent.npz'}")


def test_stacked_digits_have_a_digit_in_each_channel():
    single, stacked = data.load("digits"), data.stacked_digits(500, seed=1)
    assert stacked.examples.shape == (500, 8, 8, 3)
    assert stacked.examples.dtype == np.float32
    label_of = {
        image.tobytes(): label for image, label in zip(single.examples[..., 0], single.labels, strict=True)
    }
    for image, label in zip(stacked.examples[:20], stacked.labels[:20], strict=True):
        digits = [label_of[channel.tobytes()] for channel in np.moveaxis(image, -1, 0)]
        assert digits == [int(digit) for digit in f"{label:03d}"]
    # 500 of 1,000 about equally likely modes: 1000 (1 - e^-0.5) = 393 of them, sd 10.
    assert 350 < len(set(stacked.labels.tolist())) < 435
    np.testing.assert_array_equal(data.stacked_digits(500, seed=1).examples, stacked.examples)


# Conditions ---------------------------------------------------------------------------------------


def test_further_arrays_of_a_file_are_conditions(tmp_path):
    y, k = np.random.default_rng(0).random((4, 3)), np.arange(4)
    np.savez(tmp_path / "a.npz", images=np.zeros((4, 5, 5)), y=y, k=k)
    found = data.load(f"npz:{tmp_path / 'a.npz'}", conditions=("y", "k"))
    assert set(found.columns) == {"x", "label", "y", "k"}
    np.testing.assert_array_equal(found.conditions["y"], y.astype(np.float32))
    np.testing.assert_array_equal(found.conditions["k"], k)
    assert found.event == (5, 5, 1)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (None, "has no array `y`, which --conditions names"),
        (np.zeros((3, 2)), r"y is float64\[3, 2\], not numbers \[4, ...\]"),
        (np.array(["a"] * 4), "y is <U1"),
        (np.array([0, 1, np.nan, 3]), "y has numbers that are not finite"),
    ],
)
def test_arrays_that_cannot_be_conditions_are_named(tmp_path, array, said):
    arrays = {"images": np.zeros((4, 5, 5))} | ({} if array is None else {"y": array})
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(data.DataError, match=said):
        data.load(f"npz:{tmp_path / 'a.npz'}", conditions=("y",))


def test_only_npz_files_have_conditions():
    with pytest.raises(data.DataError, match=r"--conditions y: only npz: files .*, not digits"):
        data.load("digits", conditions=("y",))


def test_random_images_stand_in_for_a_data_set():
    x = data.load("random:6x4x3").examples
    assert x.shape == (1024, 6, 4, 3)
    np.testing.assert_array_equal(x[:5], data.load("random:6x4x3").examples[:5])
    with pytest.raises(data.DataError, match="use random:HxWxC, such as random:32x32x3"):
        data.load("random:6x0x3")


@pytest.mark.parametrize("label", [-1, 0.5, np.nan])
def test_labels_that_are_no_class_numbers_are_refused(tmp_path, label):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 5, 5)), labels=np.array([0, label]))
    with pytest.raises(data.DataError, match="is no number of a class; classes are numbered from 0"):
        data.load(f"npz:{tmp_path / 'a.npz'}")


def test_a_condition_must_not_take_the_name_of_another_array(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 5, 5)), x=np.zeros(2))
    with pytest.raises(data.DataError, match="--conditions x: a batch has another array of this name"):
        data.load(f"npz:{tmp_path / 'a.npz'}", conditions=("x",))

import numpy as np
import pytest

from jaxscore import data, mixtures
from jaxscore.data.formats import numpy_files


def test_digits_are_the_1797_digits_in_zero_to_one():
    digits = data.load("digits")
    assert (digits.examples.shape, digits.examples.dtype) == ((1797, 8, 8, 1), np.float32)
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


def test_latents_may_have_any_values_but_must_be_finite_floats(tmp_path):
    latents = np.random.default_rng(0).normal(3.0, 5.0, (4, 2, 2, 4)).astype(np.float32)
    cases = {"fine": latents, "nan": np.full_like(latents, np.nan), "bytes": np.zeros((4, 2, 2, 4), np.uint8)}
    cases |= {"one value": np.full_like(latents, 0.1), "huge": latents.astype(float) * 1e200}
    for name, array in cases.items():
        np.savez(tmp_path / f"{name}.npz", images=array, labels=np.arange(4))
    loaded = data.load(f"latents:{tmp_path / 'fine.npz'}")
    np.testing.assert_array_equal(loaded.examples[:], latents)
    np.testing.assert_array_equal(loaded.labels, np.arange(4))
    said = {"nan": "are not all finite", "bytes": "are uint8, not floats", "one value": "all numbers are 0.1"}
    for name, text in (said | {"huge": r"e\+201, whose squares float32 does not hold"}).items():
        with pytest.raises(data.DataError, match=text):
            data.load(f"latents:{tmp_path / name}.npz")


def test_floats_are_looked_at_to_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr(numpy_files, "CHUNK", 100)
    for value in (1.5, -0.1, np.nan):
        images = np.zeros((9, 4, 4))
        images[8, 3, 3] = value
        np.save(tmp_path / "a.npy", images)
        with pytest.raises(data.DataError, match=r"a\.npy: images run from"):
            data.from_npz(tmp_path / "a.npy")


IMAGES = {"images": np.full((4, 5, 5), 0.5)}
REFUSED = [
    ({}, (), "it has no array `images`"),
    ({"pictures": IMAGES["images"]}, (), "it has no array `images`"),
    ({"images": np.array([IMAGES, None], object)}, (), "cannot be read: .*object"),
    ({"images": np.full((4, 5, 5), "a")}, (), r"images are <U1\[4, 5, 5\]"),
    ({"images": np.full((4, 5, 5), 200)}, (), "images run from 200"),
    ({"images": np.float32(0.5)}, (), r"images are float32\[\]"),
    ({"images": np.zeros((4, 5))}, (), r"images are float64\[4, 5\]"),
    ({"images": np.zeros((4, 5, 5, 1, 1))}, (), r"images are float64\[4, 5, 5, 1, 1\]"),
    ({"images": np.zeros((0, 5, 5))}, (), r"images are float64\[0, 5, 5\]"),
    (IMAGES | {"labels": np.array([1])}, (), r"labels are int64\[1\]"),
    (IMAGES | {"labels": np.int32(1)}, (), r"labels are int32\[\]"),
    (IMAGES | {"labels": np.array([0, 1, 2, -1])}, (), "label -1 is no number of a class"),
    (IMAGES | {"labels": np.array([0, 1, 2, 0.5])}, (), "label 0.5 is no number of a class"),
    (IMAGES | {"labels": np.array([0, 1, 2, np.nan])}, (), "label nan is no number of a class"),
    (IMAGES | {"y_train": np.eye(4)}, (), r"labels are float64\[4, 4\], .*argmax"),
    (IMAGES | {"y": np.arange(4), "label": np.arange(4)}, (), "which of label, y are the labels"),
    (
        {"x": IMAGES["images"], "image": np.zeros(3)},
        (),
        r"which of image, x .*; it holds x float64\[4, 5, 5\]",
    ),
    ({"pics": IMAGES["images"]}, (), r"no array `images`; it holds pics float64\[4, 5, 5\]; name it images"),
    ({"images": np.zeros((4, 3, 32, 32))}, (), "channels first"),
    ({"images": np.ones((4, 5, 5), np.uint8)}, (), "bytes from 0 to 1, .*multiply them by 255"),
    ({"images": np.full((4, 5, 5), -0.5)}, (), r"run from -0\.5 to -0\.5, .*\(images \+ 1\) / 2"),
    ({"images": np.full((4, 5, 5), 3 - 1j)}, (), "run from -1 to 3, not in"),
    (IMAGES, ("y",), "has no array `y`, which --conditions names"),
    (IMAGES | {"y": np.zeros((3, 2))}, ("y",), r"y is float64\[3, 2\], not numbers \[4, ...\]"),
    (IMAGES | {"y": np.array(["a"] * 4)}, ("y",), "y is <U1"),
    (IMAGES | {"y": np.array([0, 1, np.nan, 3])}, ("y",), "y has numbers that are not finite"),
    (IMAGES | {"x": np.zeros(4)}, ("x",), "--conditions x: a batch has another array of this name"),
]


@pytest.mark.parametrize(("arrays", "conditions", "said"), REFUSED)
def test_arrays_that_cannot_be_used_are_named_with_the_file(tmp_path, arrays, conditions, said):
    """For files that are damaged: see formats/test_damaged.py."""
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(data.DataError, match=said) as caught:
        data.load(f"npz:{tmp_path / 'a.npz'}", conditions=conditions)
    assert str(tmp_path / "a.npz") in str(caught.value)


NAMES = [("image", "label"), ("x_train", "y_train"), ("x", "y"), ("data", "labels"), ("arr_0", "arr_1")]


@pytest.mark.parametrize(("images", "labels"), [*NAMES, ("images", "y"), ("x", "label")])
def test_other_usual_names_are_found(tmp_path, images, labels):
    x, y = np.random.default_rng(0).random((4, 5, 5)), np.array([1, 0, 2, 1])
    np.savez(tmp_path / "a.npz", **{images: x, labels: y, "x_test": x[:2], "y_test": y[:2]})
    found = data.from_npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.examples[..., 0], x.astype(np.float32))
    np.testing.assert_array_equal(found.labels, y)
    assert found.classes == 3


def test_names_that_are_meant_come_first(tmp_path):
    """`images` is not another name's; real numbers and conditions are no labels."""
    y, x = np.random.default_rng(0).random((4, 3)), np.zeros((4, 2, 2))
    np.savez(tmp_path / "a.npz", images=np.full((4, 5, 5), 0.5), x=x, data=x, y=y, label=np.arange(4))
    found = data.from_npz(tmp_path / "a.npz", conditions=("y",))
    assert found.event == (5, 5, 1)
    np.testing.assert_array_equal(found.labels, np.arange(4))
    np.savez(tmp_path / "a.npz", images=np.full((4, 5, 5), 0.5), y=np.arange(4))
    found = data.from_npz(tmp_path / "a.npz", conditions=("y",))
    np.testing.assert_array_equal(found.labels, np.zeros(4))
    np.savez(tmp_path / "a.npz", images=np.full((4, 5, 5), 0.5), y=y)
    assert data.from_npz(tmp_path / "a.npz").classes == 1


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 6, 3)])
def test_complex_images_become_real_and_imaginary_channels(tmp_path, monkeypatch, shape):
    """A warning says so."""
    real, imaginary = np.random.default_rng(0).random((2, *shape))
    np.savez(tmp_path / "a.npz", images=real + 1j * imaginary)
    c = int(np.prod(shape[3:]))
    for limit in (2**30, 0):
        monkeypatch.setattr(data.images, "RESIDENT_BYTES", limit)
        with pytest.warns(UserWarning, match=rf"a\.npz: {c} complex channels are read as {2 * c}"):
            found = data.from_npz(tmp_path / "a.npz").examples[:]
        assert found.shape == (4, 5, 6, 2 * c)
        np.testing.assert_array_equal(found[..., ::2], real.reshape(4, 5, 6, c).astype(np.float32))
        np.testing.assert_array_equal(found[..., 1::2], imaginary.reshape(4, 5, 6, c).astype(np.float32))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_very_few_images_are_loaded_and_batched(tmp_path, n):
    np.savez(tmp_path / "a.npz", images=np.full((n, 5, 5), 200, np.uint8))
    source = data.load(f"npz:{tmp_path / 'a.npz'}")
    assert (len(source.examples), source.classes) == (n, 1)
    assert next(data.batches(source, batch=8, seed=0))["x"].shape == (8, 5, 5, 1)
    assert data.fingerprint(source)


def test_classes_are_counted_with_the_numbers_that_are_left_out():
    labels = np.array([0, 7, 2], np.int32)
    assert data.Dataset(np.zeros((3, 2)), labels).classes == 8
    assert data.load("digits").classes == 10
    assert data.load("random:2x2x1").classes == 1


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


def test_only_npz_files_have_conditions():
    with pytest.raises(data.DataError, match=r"--conditions y: only npz: files .*, not digits"):
        data.load("digits", conditions=("y",))


def test_random_images_stand_in_for_a_data_set():
    x = data.load("random:6x4x3").examples
    assert x.shape == (1024, 6, 4, 3)
    np.testing.assert_array_equal(x[:5], data.load("random:6x4x3").examples[:5])
    with pytest.raises(data.DataError, match="use random:HxWxC, such as random:32x32x3"):
        data.load("random:6x0x3")

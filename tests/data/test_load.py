import sys

import numpy as np
import pytest

from jaxscore import data
from tests.data.formats.test_idx import write
from tests.data.formats.test_tfds import PREPARED

load = sys.modules["jaxscore.data.load"]  # `data.load` is the function


def test_an_unknown_name_says_which_are_known():
    for name in ("mnits", "npz", "folder:", "parquet:x", ""):
        with pytest.raises(data.DataError, match="digits, fashion_mnist, mnist"):
            data.load(name)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_mnist_is_found_in_the_folder_as_its_own_files(tmp_path, name):
    images, _ = write(tmp_path)
    assert data.load(name, tmp_path).examples.shape == (7, 28, 28, 1)
    found = data.load(name, str(tmp_path), split="all")
    np.testing.assert_allclose(found.examples[:][..., 0], images / 255, rtol=1e-6)


def test_fashion_mnist_is_found_where_debian_puts_it(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setattr(load, "FASHION_MNIST", tmp_path)
    assert data.load("fashion_mnist", split="test").examples.shape == (3, 28, 28, 1)


def test_a_prepared_directory_is_the_next_place(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "FASHION_MNIST", tmp_path / "absent")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for name in ("mnist", "fashion_mnist", "cifar10"):
        (tmp_path / name).symlink_to(PREPARED / "digits8x8")
        assert data.load(name).examples.shape == (240, 8, 8, 1)
        assert data.load(name, tmp_path, split="test").examples.shape == (60, 8, 8, 1)
    # Its own files come first.
    write(tmp_path)
    assert data.load("mnist", tmp_path).examples.shape == (7, 28, 28, 1)


def test_fashion_mnist_nowhere_names_both_places_and_commands(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "FASHION_MNIST", tmp_path / "debian")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    with pytest.raises(data.DataError, match="apt install dataset-fashion-mnist") as caught:
        data.load("fashion_mnist")
    parts = (str(tmp_path / "debian"), str(tmp_path / "tfds"), "tfds.data_source('fashion_mnist')")
    assert [part for part in parts if part not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("name", "size"),
    [("celeb_a", 64), ("lsun/church_outdoor", 96), ("lsun/bedroom", 128), ("lsun/tower", 128)],
)
def test_photographs_have_their_published_sizes_and_any_other(tmp_path, monkeypatch, name, size):
    assert load.TFDS["celeb_a"] == (140, 64)
    # The images of 8x8 stand for photographs; CelebA's would be too small for its crop of 140.
    monkeypatch.setitem(load.TFDS, "celeb_a", load.TFDS["celeb_a"]._replace(crop=6))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to(PREPARED / "digits8x8")
    assert data.load(name, tmp_path, split="test").examples.shape == (60, size, size, 1)
    assert data.load(name, tmp_path, split="test", size=7).examples.shape == (60, 7, 7, 1)


def test_absent_sets_are_refused_at_once(tmp_path):
    names = ("mnist", "cifar10", "celeb_a", "lsun/bedroom", "imagenet_resized/64x64", "tfds:imagenet2012")
    for name in names:
        with pytest.raises(data.DataError, match=rf"tfds\.data_source\('{name.removeprefix('tfds:')}'"):
            data.load(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("digits", {"split": "test"}, "no split 'test'"),
        ("digits", {"folder": "somewhere"}, "leave somewhere out"),
        ("digits", {"size": 16}, "one size"),
        ("cifar10", {"size": 16}, "one size"),
        ("imagenet_resized/64x64", {"size": 32}, "one size"),
        ("npz:a.npz", {"size": 16}, "one size"),
        ("folder:a", {"size": 0}, "at least 1"),
        ("folder:a", {"split": "test"}, "no split 'test'"),
    ],
)
def test_options_that_a_set_does_not_have_are_refused(name, options, complaint):
    with pytest.raises(data.DataError, match=complaint):
        data.load(name, **options)


def test_the_splits_are_those_that_are_there(tmp_path):
    assert data.splits("digits") == data.splits("npz:a.npz") == data.splits("folder:a") == ("train",)
    assert data.splits("tfds:digits8x8", PREPARED) == ("train", "test")
    write(tmp_path)
    assert data.splits("mnist", tmp_path) == ("train", "test")
    for path in tmp_path.glob("train-*"):
        path.unlink()
    assert data.splits("mnist", str(tmp_path)) == ("test",)
    with pytest.raises(data.DataError, match="is not known"):
        data.splits("mnits")
    with pytest.raises(data.DataError, match=r"tfds\.data_source"):
        data.splits("cifar10", tmp_path)


def test_imagenet_has_a_resolution_and_any_other_set_any_size(tmp_path):
    (tmp_path / "imagenet_resized").mkdir()
    (tmp_path / "imagenet_resized" / "8x8").symlink_to(PREPARED / "digits8x8")
    assert data.load("imagenet_resized/8x8", tmp_path).examples.shape == (240, 8, 8, 1)
    assert data.load("tfds:digits8x8", PREPARED).examples.shape == (240, 8, 8, 1)
    assert data.load("tfds:digits8x8", PREPARED, size=4).examples.shape == (240, 4, 4, 1)

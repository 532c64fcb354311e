"""`prepared/digits8x8` was written by tensorflow-datasets 4.9.10 with TensorFlow 2.21, as TFRecord: the first
240 (train) and next 60 (test) of scikit-learn's digits, as PNG images of 8x8 pixels. array_record is
written here.
"""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image

from jaxscore.data import DataError, digits, images
from jaxscore.data.formats import tfds

PREPARED = Path(__file__).parents[1] / "prepared"


def sorted_rows(examples, labels):
    """As a set: TFDS shuffles."""
    pixels = np.round(np.asarray(examples) * 255).astype(np.uint8)
    return sorted((label, row.tobytes()) for label, row in zip(labels.tolist(), pixels, strict=True))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with two data sets in array_record: `pets` of 30 x 20 pixels, and `grey`, without labels."""
    folder = tmp_path_factory.mktemp("tfds")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 30, 20, 3)).astype(np.uint8)
    Features, Picture = tensorflow_datasets.features.FeaturesDict, tensorflow_datasets.features.Image

    class Maker(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tensorflow_datasets.core.Version("1.0.0")
        code_path = None  # where TFDS would look for checksums of downloads

        def _info(self):
            return tensorflow_datasets.core.DatasetInfo(builder=self, features=Features(self.features))

        def _split_generators(self, manager):
            return {"train": self._generate_examples(range(8)), "test": self._generate_examples(range(8, 12))}

        def _generate_examples(self, numbers):
            for i in numbers:
                yield i, self.example(i)

    class Pets(Maker, skip_registration=True):
        name = "pets"
        features = {  # noqa: RUF012
            "image": Picture(shape=(30, 20, 3), encoding_format="png"),
            "kind": tensorflow_datasets.features.ClassLabel(num_classes=5),
        }
        example = staticmethod(lambda i: {"image": Image.fromarray(pixels[i]), "kind": i % 5})

    class Grey(Maker, skip_registration=True):
        name = "grey"
        features = {"picture": Picture(shape=(None, None, 1), encoding_format="png")}  # noqa: RUF012
        example = staticmethod(lambda i: {"picture": Image.fromarray(pixels[i, : 20 + i, :, 0])})

    for maker in (Pets, Grey):
        maker(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return folder, pixels


# TFRecord -----------------------------------------------------------------------------------------


def test_a_directory_of_tfrecord_is_read():
    expected = digits()
    for split, rows in (("train", slice(240)), ("test", slice(240, 300)), ("all", slice(300))):
        loaded = tfds.load("digits8x8", PREPARED, split=split)
        assert loaded.examples.dtype == np.float32
        written = sorted_rows(expected.examples[rows], expected.labels[rows])
        assert sorted_rows(loaded.examples, loaded.labels) == written


@pytest.fixture
def prepared(tmp_path):
    """A copy of `prepared`, to be damaged; for random damage see test_damaged.py."""
    return shutil.copytree(PREPARED, tmp_path / "prepared")


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "twice": lambda path: path.write_bytes(2 * path.read_bytes()),
    "missing": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_tfrecord_is_named(prepared, damage):
    DAMAGE[damage](next(prepared.rglob("*train*")))
    with pytest.raises(DataError, match="digits8x8"):
        tfds.load("digits8x8", prepared)


def test_what_memory_cannot_hold_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(images.os, "sysconf", lambda name: 100)
    with pytest.raises(DataError, match="array_record"):
        tfds.load("digits8x8", PREPARED)


# array_record -------------------------------------------------------------------------------------


def test_a_directory_of_array_record_is_read(written):
    folder, pixels = written
    for split, rows in (("train", slice(8)), ("test", slice(8, 12)), ("all", slice(12))):
        loaded = tfds.load("pets", folder, split=split)
        assert loaded.examples.dtype == np.float32
        expected = sorted_rows(pixels[rows] / 255, np.arange(12)[rows] % 5)
        assert sorted_rows(loaded.examples, loaded.labels) == expected


def test_large_sets_are_read_when_asked_for(written, monkeypatch):
    """Those in TFRecord are in memory all the same. That both are one: see test_records.py."""
    monkeypatch.setattr(images, "RESIDENT_BYTES", 0)
    assert not tfds.load("pets", written[0]).examples.in_memory
    assert tfds.load("digits8x8", PREPARED).examples.in_memory


def test_crop_and_size_cut_squares(written):
    folder, _ = written
    assert tfds.load("pets", folder, crop=18, size=9).examples.shape == (8, 9, 9, 3)
    with pytest.raises(DataError, match=r"image 0.*too small for its middle 21x21"):
        tfds.load("pets", folder, crop=21)


def test_sets_without_labels_have_one_class(written):
    """The image may have another name."""
    folder, _ = written
    loaded = tfds.load("grey", folder, size=16)
    assert loaded.examples.shape == (8, 16, 16, 1)
    np.testing.assert_array_equal(loaded.labels, np.zeros(8))


def test_images_of_many_sizes_need_a_size(written):
    with pytest.raises(DataError, match=r"grey.*image 1.*choose a size"):
        tfds.load("grey", written[0])


# What is where ------------------------------------------------------------------------------------


def test_the_newest_version_is_taken_and_a_version_may_be_named(tmp_path):
    for number in ("1.9.0", "1.10.0", "1.2.0"):
        (tmp_path / "set" / "config" / number).mkdir(parents=True)
        (tmp_path / "set" / "config" / number / "dataset_info.json").touch()
    assert tfds.find("set/config", tmp_path).name == "1.10.0"
    assert tfds.find("anything", tmp_path / "set" / "config" / "1.2.0").name == "1.2.0"
    assert tfds.find("set", tmp_path) is None


def test_the_folder_is_tfds_own_unless_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(PREPARED))
    assert tfds.load("digits8x8", split="test").examples.shape == (60, 8, 8, 1)
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tfds.home() == tmp_path / "tensorflow_datasets"


def test_what_is_absent_is_one_line_with_the_command_to_prepare(tmp_path):
    with pytest.raises(DataError) as caught:
        tfds.load("lsun/tower", tmp_path)
    (command,) = re.fullmatch(r'.*python -c "(.*)"', str(caught.value)).groups()
    compile(command, "command", "exec")
    assert command.endswith(f"tfds.data_source('lsun/tower', data_dir='{tmp_path}')")


def test_a_split_that_is_not_there_says_which_are():
    with pytest.raises(DataError, match="train, test, not 'validation'"):
        tfds.load("digits8x8", PREPARED, split="validation")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("dataset_info.json", '"tfrecord"', '"riegeli"'),
        ("features.json", "image_feature.Image", "text_feature.Text"),
    ],
)
def test_other_formats_and_features_are_one_line(prepared, name, old, new):
    path = next(prepared.rglob(name))
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=r"\A.*digits8x8.*\Z"):
        tfds.load("digits8x8", prepared)

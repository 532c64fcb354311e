import numpy as np
import pytest
import tensorflow_datasets

from experiments import prepare
from jaxscore import data, launch
from tests.data.formats.test_idx import write as write_mnist
from tests.data.formats.test_tfds import PREPARED
from tests.launch.tiny import snapshot

PIXELS = np.random.default_rng(0).integers(0, 256, (600, 5, 6, 3)).astype(np.uint8)
LABELS = np.random.default_rng(1).integers(0, 4, 600)


@pytest.fixture
def photos(tmp_path):
    np.savez(tmp_path / "My-Photos.npz", images=PIXELS, labels=LABELS)
    return f"npz:{tmp_path / 'My-Photos.npz'}"


def run(**options):
    return prepare.run(prepare.Config(**options))


def back(folder, name, **options):
    return data.load(f"tfds:{name}", folder, **options)


def assert_same(found, expected):
    rows = np.arange(len(expected.labels))
    np.testing.assert_array_equal(found.examples.take(rows), expected.examples.take(rows))
    np.testing.assert_array_equal(found.labels, expected.labels)


# What is written ----------------------------------------------------------------------------------


def test_what_is_written_is_read_back_identically_and_in_order(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prepare, "SHARD_BYTES", 250 * PIXELS[0].size)  # three files
    folder = run(data=photos, out=tmp_path / "out")
    assert folder == tmp_path / "out" / "my_photos" / "1.0.0"
    assert len(list(folder.glob("my_photos-train.array_record-*"))) == 3
    assert_same(back(tmp_path / "out", "my_photos"), data.load(photos))
    said = capsys.readouterr().out
    assert said.endswith(
        f"600 train in {folder.parent}; read with --data tfds:my_photos "
        f"and TFDS_DATA_DIR={tmp_path / 'out'} or --data-dir {tmp_path / 'out'}\n"
    )
    assert "rounded" not in said


def test_tensorflow_datasets_reads_it_too(photos, tmp_path):
    run(data=photos, out=tmp_path)
    source = tensorflow_datasets.data_source("my_photos", data_dir=tmp_path, split="train", download=False)
    assert len(source) == 600
    np.testing.assert_array_equal(source[7]["image"], PIXELS[7])
    assert source[7]["label"] == LABELS[7]
    assert source.dataset_info.features["label"].num_classes == 4


def test_grey_floats_are_rounded_to_the_nearest_byte(tmp_path, capsys):
    """A line says that they are rounded."""
    run(data="digits", out=tmp_path)
    found, expected = back(tmp_path, "digits"), data.digits()
    # 17 grey values: the farthest from a multiple of 1/255 is half of one away, 8/16.
    np.testing.assert_allclose(found.examples[:], expected.examples, atol=0.5 / 255 + 1e-7)
    np.testing.assert_array_equal(np.round(found.examples[:] * 16) / 16, expected.examples)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert "rounded to multiples of 1/255, by at most 0.002\n" in capsys.readouterr().out


def test_floats_that_are_multiples_of_1_255_are_not_rounded(tmp_path, capsys):
    np.save(tmp_path / "a.npy", data.pixels.unit(PIXELS[:9]))
    run(data=f"npz:{tmp_path / 'a.npy'}", out=tmp_path)
    np.testing.assert_array_equal(back(tmp_path, "a").examples.take(np.arange(9)), PIXELS[:9])
    assert "rounded" not in capsys.readouterr().out


def test_all_splits_are_written_or_those_that_are_named(tmp_path):
    write_mnist(tmp_path)
    run(data="mnist", data_dir=tmp_path, out=tmp_path)
    run(data="mnist", data_dir=tmp_path, out=tmp_path, name="tenth", split=("test",))
    for split in ("train", "test"):
        assert_same(back(tmp_path, "mnist", split=split), data.load("mnist", tmp_path, split=split))
    assert data.splits("tfds:mnist", tmp_path) == ("train", "test")
    assert data.splits("tfds:tenth", tmp_path) == ("test",)
    assert_same(back(tmp_path, "tenth", split="test"), data.load("mnist", tmp_path, split="test"))


def test_tfrecord_becomes_array_record_of_another_size(tmp_path):
    run(data="tfds:digits8x8", data_dir=PREPARED, out=tmp_path, name="small", size=4)
    for split in ("train", "test"):
        expected = data.load("tfds:digits8x8", PREPARED, split=split, size=4)
        assert_same(back(tmp_path, "small", split=split), expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("npz:a/b/My-Photos.v2.npz", "my_photos_v2"),
        ("folder:/data/ffhq256/", "ffhq256"),
        ("lsun/church_outdoor", "lsun_church_outdoor"),
        ("tfds:imagenet_resized/64x64", "imagenet_resized_64x64"),
        ("digits", "digits"),
    ],
)
def test_the_name_is_made_of_that_of_the_data(name, expected):
    assert prepare.default_name(name) == expected


# What is refused ----------------------------------------------------------------------------------


def test_a_name_that_is_taken_is_refused(photos, tmp_path, refused):
    (tmp_path / "out" / "my_photos").mkdir(parents=True)
    (tmp_path / "out" / "my_photos" / "precious").write_text("kept")
    words = f"--data {photos} --out out"
    assert "--out out: out/my_photos exists already" in refused("prepare", words)
    said = "--name my_photos: out/my_photos exists already"
    assert said in refused("prepare", f"{words} --name my_photos")
    run(data=photos, out=tmp_path / "out", name="others")
    assert_same(back(tmp_path / "out", "others"), data.load(photos))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--out out", "missing: --data"),
        ("--data npz:absent.npz --out out", "no data at absent.npz"),
        ("--data digits --out out --split test", "no split 'test'"),
        ("--data digits --out out --split train train", "--split train train: names one twice"),
        ("--data= --out out", "--data '': is empty"),
        ("--data npz:1.npz --out out", "--data npz:1.npz: gives no name"),
        ("--data digits --out out --name Bad-Name", "--name Bad-Name: must be small letters"),
        ("--data pixels --out out", "'pixels' is not known"),
        ("--data digits --out out --nmae x", "--nmae"),
        ("--data digits --out file", "file"),
        ("--data npz:two.npz --out out", "need images of one size, and of 1, 3 or 4 channels"),
        ("--data npz:minus.npz --out out", "label -3 is no number of a class"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, refused, words, said):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "out").mkdir()
    np.savez(tmp_path / "two.npz", images=np.zeros((3, 4, 4, 2)))
    np.savez(tmp_path / "minus.npz", images=np.zeros((3, 4, 4)), labels=np.array([0, 1, -3]))
    assert said in refused("prepare", words)


def test_two_at_once_name_the_folder_that_was_asked_for(photos, tmp_path, monkeypatch):
    """The other one has finished while this one wrote; its data stay."""
    place = tmp_path / "out" / "my_photos"

    def write(*arguments):
        (place / "1.0.0").mkdir(parents=True)
        return 0.0

    monkeypatch.setattr(prepare, "write", write)
    with pytest.raises(
        launch.FlagError, match=f"^--out {tmp_path / 'out'}: another process has made {place}"
    ):
        run(data=photos, out=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["my_photos"]


def test_an_error_on_the_way_leaves_nothing_behind(photos, tmp_path, monkeypatch):
    def fail(image):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare.pictures, "encode", fail)
    before = snapshot(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        run(data=photos, out=tmp_path)
    assert snapshot(tmp_path) == before

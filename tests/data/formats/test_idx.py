import gzip
import struct

import numpy as np
import pytest

from jaxscore.data import DataError
from jaxscore.data.formats import idx


def encoded(array, code=8):
    """IDX as its description has it."""
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write(folder, *, gzipped=True, mark="-"):
    """A small MNIST of 7 and 3 images; returns all of its images and labels."""
    generator = np.random.default_rng(0)
    images, labels = generator.integers(0, 256, (10, 28, 28)), np.arange(10)
    for prefix, rows in (("train", slice(7)), ("t10k", slice(7, 10))):
        for kind, array in ((f"images{mark}idx3", images[rows]), (f"labels{mark}idx1", labels[rows])):
            content = encoded(array)
            name = f"{prefix}-{kind}-ubyte" + (".gz" if gzipped else "")
            (folder / name).write_bytes(gzip.compress(content) if gzipped else content)
    return images, labels


@pytest.mark.parametrize(("gzipped", "mark"), [(True, "-"), (False, "-"), (False, ".")])
def test_the_splits_are_what_was_written(tmp_path, gzipped, mark):
    images, labels = write(tmp_path, gzipped=gzipped, mark=mark)
    for split, rows in (("train", slice(7)), ("test", slice(7, 10)), ("all", slice(10))):
        loaded = idx.load(tmp_path, split)
        assert loaded.examples.dtype == np.float32
        np.testing.assert_allclose(loaded.examples[:][..., 0], images[rows] / 255, rtol=1e-6)
        np.testing.assert_array_equal(loaded.labels, labels[rows])
    assert idx.load(tmp_path).examples.shape == (7, 28, 28, 1)
    with pytest.raises(DataError, match="train, test and all, not 'validation'"):
        idx.load(tmp_path, "validation")


def test_bytes_of_0_and_1_are_refused(tmp_path):
    write(tmp_path, gzipped=False)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(encoded(np.ones((7, 28, 28))))
    with pytest.raises(DataError, match="bytes from 0 to 1"):
        idx.load(tmp_path)
    assert len(idx.load(tmp_path, "test").examples) == 3


def test_a_missing_file_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    idx.load(tmp_path, "train")
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte"):
        idx.load(tmp_path, "all")


GOOD = encoded(np.zeros((2, 3, 4)))

DAMAGED = {
    "empty": b"",
    "cut short": GOOD[:-1],
    "cut in the header": GOOD[:6],
    "cut before the last length ends": GOOD[:15],
    "too long": GOOD + b"\0",
    "floats": encoded(np.zeros((2, 3, 4)), code=13),
    "text": b"not MNIST at all",
    "other sizes": GOOD[:4] + struct.pack(">3I", 2**31, 2**31, 2**31) + GOOD[16:],
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=list(DAMAGED))
def test_a_damaged_file_is_named(tmp_path, content):
    """For gzipped files see test_damaged.py."""
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        idx.read(path)


@pytest.mark.parametrize(
    ("kind", "said"),
    [("images-idx3", "rank 1, not 3"), ("labels-idx1", "7 train-images, but 6 labels")],
)
def test_files_that_do_not_belong_together_are_refused(tmp_path, kind, said):
    write(tmp_path, gzipped=False)
    (tmp_path / f"train-{kind}-ubyte").write_bytes(encoded(np.arange(6)))
    with pytest.raises(DataError, match=said):
        idx.load(tmp_path)

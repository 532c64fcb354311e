"""Randomly damaged files give one clear line that names the file, or the right data.

A checksum finds every change in the members of an .npz file, in gzip, PNG, TFRecord and array_record. The
pixels of IDX, .npy and JPEG have none: a byte that is changed there is another pixel, and nobody can know.
"""

import gzip
import io
import pickle
import shutil
import warnings
import zipfile
from pathlib import Path

import chex
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from experiments import prepare
from jaxscore import data
from jaxscore.data import images
from tests.data.formats.test_idx import encoded
from tests.data.formats.test_tfds import PREPARED

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (12, 6, 5, 3)).astype(np.uint8)
LABELS = np.arange(12) % 3

few = settings(
    max_examples=25,
    deadline=None,  # the first example compiles and imports
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@st.composite
def damages(draw):
    """content -> content that is cut, changed, longer, or another's."""
    kind = draw(st.sampled_from(("cut", "flip", "fill", "insert", "remove", "append", "replace")))
    share = draw(st.floats(0, 1, exclude_max=True))
    amount = draw(st.integers(1, 40))
    junk = draw(st.binary(min_size=amount, max_size=amount))
    masks = draw(st.lists(st.integers(1, 255), min_size=1, max_size=8))

    def damage(content):
        place = int(share * len(content))
        if kind == "cut":
            return content[:place]
        if kind == "flip":
            changed = bytearray(content)
            for number, mask in enumerate(masks):
                changed[(place + 37 * number) % len(content)] ^= mask
            return bytes(changed)
        if kind == "replace":
            return junk
        after = {"insert": place, "append": len(content), "remove": place + amount, "fill": place + amount}
        start = len(content) if kind == "append" else place
        return content[:start] + (b"" if kind == "remove" else junk) + content[after[kind] :]

    return damage


def outcome(load, path):
    """The data, or None after an error, which has to be of one line, and to name the file or its folder."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = load(path)
            return loaded.examples[:], loaded.labels
    except data.DataError as error:
        line = str(error)
    assert "\n" not in line
    assert len(line) < 1000
    assert any(str(part) in line for part in (path, path.parent))
    assert "Type-check" not in line  # what the tests' own checks say is no clear line
    return None


def assert_right_or_refused(load, path, content, damage, *, checked=True):
    """With the file damaged: refused, or as it was; where nothing is checked, at least of such a form."""
    path.write_bytes(content)
    expected = outcome(load, path)
    try:
        path.write_bytes(damage(content))
        found = outcome(load, path)
    finally:
        path.write_bytes(content)
    if found is not None and checked:
        chex.assert_trees_all_equal(found, expected)
    elif found is not None:
        examples, labels = found
        assert (examples.ndim, examples.dtype, len(examples)) == (4, np.float32, len(labels))
        assert 0 <= examples.min() <= examples.max() <= 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@pytest.fixture(params=["in memory", "mapped or read when asked for"])
def _small_or_large(request, monkeypatch):
    if request.param != "in memory":
        monkeypatch.setattr(images, "RESIDENT_BYTES", 0)


small_or_large = pytest.mark.usefixtures("_small_or_large")


# Arrays -------------------------------------------------------------------------------------------


def in_bytes(save, *arrays, **named):
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


ARCHIVES = {
    "stored": in_bytes(np.savez, images=PIXELS, labels=LABELS),
    "deflated": in_bytes(np.savez_compressed, images=PIXELS, labels=LABELS),
    "floats": in_bytes(np.savez, images=PIXELS / 255, labels=LABELS),
}


@small_or_large
@pytest.mark.parametrize("kind", ARCHIVES)
@few
@given(damage=damages())
def test_npz(folder, kind, damage):
    # The directory is no member, and has no checksum: with a member's name lost there are no labels.
    path = folder / "a.npz"
    path.write_bytes(damage(ARCHIVES[kind]))
    found = outcome(data.from_npz, path)
    if found is not None:
        expected = PIXELS / np.float32(255)
        np.testing.assert_allclose(found[0], expected, rtol=1e-6)
        assert found[1].tolist() in (LABELS.tolist(), [0] * 12)


@small_or_large
@pytest.mark.parametrize("array", [PIXELS, PIXELS / 255], ids=["bytes", "floats"])
@few
@given(damage=damages())
def test_npy(folder, array, damage):
    content = in_bytes(np.save, array)
    assert_right_or_refused(data.from_npz, folder / "a.npy", content, damage, checked=False)


class Harmful:
    """Whose unpickling makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@few
@given(damage=damages(), how=st.sampled_from(("npz", "npy", "member", "pickle")))
def test_nothing_is_executed(folder, damage, how):
    harm, path = folder / "harm", folder / "harmful.npz"
    objects = np.array([Harmful(harm)] * 4, object)
    whole = {
        "npz": lambda: in_bytes(np.savez, images=objects, labels=objects),
        "npy": lambda: in_bytes(np.save, objects),
        "member": lambda: archive("images.npy", pickle.dumps(objects)),
        "pickle": lambda: pickle.dumps(objects),
    }[how]()
    for content in (whole, damage(whole)):
        path.write_bytes(content)
        assert outcome(data.from_npz, path) is None
        assert not harm.exists()
    if how == "pickle":  # it would have been
        pickle.loads(whole)
        assert harm.exists()
        harm.unlink()


def archive(name, content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as into:
        into.writestr(name, content)
    return file.getvalue()


@few
@given(header=st.text(st.characters(codec="ascii"), max_size=90))
def test_headers_of_npy_are_no_programs(folder, header):
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    (folder / "a.npy").write_bytes(content)
    assert outcome(data.from_npz, folder / "a.npy") is None


# IDX ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ending", "compress"), [("", bytes), (".gz", gzip.compress)])
@few
@given(damage=damages(), kind=st.sampled_from(("images-idx3", "labels-idx1")))
def test_idx(folder, ending, compress, damage, kind):
    parts = {"images-idx3": encoded(PIXELS[..., 0]), "labels-idx1": encoded(LABELS)}
    place = folder / f"idx{ending}"
    place.mkdir(exist_ok=True)
    path = lambda kind: place / f"train-{kind}-ubyte{ending}"
    for name, part in parts.items():
        path(name).write_bytes(compress(part))
    load = lambda path: data.load("mnist", place)
    assert_right_or_refused(load, path(kind), compress(parts[kind]), damage, checked=bool(ending))


# Folders of images --------------------------------------------------------------------------------


IMAGE = Image.fromarray(PIXELS[0])
PICTURES = {kind: in_bytes(IMAGE.save, format=kind) for kind in ("PNG", "JPEG")}


@small_or_large
@pytest.mark.parametrize("kind", PICTURES)
@few
@given(damage=damages(), number=st.integers(0, 2))
def test_pictures(folder, kind, damage, number):
    place = folder / kind
    place.mkdir(exist_ok=True)
    paths, content = [place / f"{i}.{kind.lower()}" for i in range(3)], PICTURES[kind]
    for path in paths:
        path.write_bytes(content)
    load = lambda path: data.load(f"folder:{place}")
    assert_right_or_refused(load, paths[number], content, damage, checked=kind == "PNG")


# Prepared directories -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(folder):
    np.savez(folder / "whole.npz", images=PIXELS, labels=LABELS)
    prepare.run(prepare.Config(data=f"npz:{folder / 'whole.npz'}", out=folder, name="written"))
    shutil.copytree(PREPARED / "digits8x8", folder / "digits8x8")
    return folder


@small_or_large
@pytest.mark.parametrize(("name", "split"), [("written", "train"), ("digits8x8", "test")])
@settings(few, max_examples=15)
@given(damage=damages())
def test_records(prepared, name, split, damage):
    (path,) = (prepared / name).rglob(f"*-{split}.*")
    load = lambda path: data.load(f"tfds:{name}", prepared, split=split)
    assert_right_or_refused(load, path, path.read_bytes(), damage)


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@settings(few, max_examples=12)
@given(damage=damages())
def test_descriptions(prepared, file, damage):
    (path,) = (prepared / "digits8x8").rglob(file)
    load = lambda path: data.load("tfds:digits8x8", prepared, split="test")
    assert_right_or_refused(load, path, path.read_bytes(), damage, checked=False)

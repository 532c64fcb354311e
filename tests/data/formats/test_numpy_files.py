import io
import zipfile

import numpy as np
import pytest

from jaxscore.data import DataError
from jaxscore.data.formats import numpy_files

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 9, 8)).astype(np.uint8)


EVERY_OTHER = IMAGES[..., ::2]


def is_mapped(array):
    while array is not None and not isinstance(array, np.memmap):
        array = array.base if isinstance(array, np.ndarray) else None
    return array is not None


def stored(array, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


# What is read, and what is mapped ------------------------------------------------------------------


def test_the_named_arrays_are_read_and_no_others(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, images=IMAGES, labels=np.arange(20), objects=np.array([None]))
    found = numpy_files.load(path)
    assert set(found) == {"images", "labels"}
    np.testing.assert_array_equal(found["images"], IMAGES)
    assert set(numpy_files.load(path, ("labels", "weights"))) == {"labels"}


def test_the_listing_has_types_and_shapes(tmp_path):
    """Objects are not unpickled."""
    np.savez(tmp_path / "a.npz", images=IMAGES, y=np.zeros(2), objects=np.array([None]))
    listing = {"images": "uint8[20, 9, 8]", "y": "float64[2]", "objects": "unreadable"}
    assert numpy_files.listing(tmp_path / "a.npz") == listing
    np.save(tmp_path / "a.npy", IMAGES)
    assert numpy_files.listing(tmp_path / "a.npy") == {}


def test_what_is_large_and_uncompressed_is_mapped(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=np.arange(20))
    np.savez_compressed(tmp_path / "b.npz", images=IMAGES, labels=np.arange(20))
    np.save(tmp_path / "c.npy", IMAGES)
    for name, expected in (("a.npz", True), ("b.npz", False), ("c.npy", True)):
        for limit, mapped in ((IMAGES.size, expected), (IMAGES.size + 1, False)):
            found = numpy_files.load(tmp_path / name, mapped_from=limit)
            assert is_mapped(found["images"]) == mapped
            np.testing.assert_array_equal(found["images"], IMAGES)
            assert not is_mapped(found.get("labels"))


@pytest.mark.parametrize("limit", [1, 10**9])
@pytest.mark.parametrize("array", [np.asfortranarray(IMAGES), IMAGES.astype(">f8"), IMAGES > 9, EVERY_OTHER])
def test_orders_and_types_are_kept(tmp_path, array, limit):
    np.savez(tmp_path / "a.npz", images=array)
    np.save(tmp_path / "a.npy", array)
    for name in ("a.npz", "a.npy"):
        found = numpy_files.load(tmp_path / name, mapped_from=limit)["images"]
        np.testing.assert_array_equal(found, array, strict=True)


def test_members_are_found_in_large_archives(tmp_path):
    """Members behind extra fields are found too."""
    member = zipfile.ZipInfo("images.npy")
    member.extra = b"\xff\xff\x05\x00extra"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "not an array")
        archive.writestr(member, stored(IMAGES, (2, 0)))
    found = numpy_files.load(tmp_path / "a.npz", mapped_from=1)["images"]
    assert is_mapped(found)
    np.testing.assert_array_equal(found, IMAGES)
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0


def test_chunks_are_all_rows(monkeypatch):
    monkeypatch.setattr(numpy_files, "CHUNK", 200)
    parts = list(numpy_files.chunks(IMAGES))
    assert [len(part) for part in parts] == [2] * 10
    np.testing.assert_array_equal(np.concatenate(parts), IMAGES)
    assert [len(part) for part in numpy_files.chunks(np.zeros((2, 300)))] == [1, 1]


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 10**9])
@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b[:60], lambda b: b[:4]])
def test_an_npy_of_another_length_is_refused(tmp_path, change, limit):
    path = tmp_path / "a.npy"
    path.write_bytes(change(stored(IMAGES)))
    with pytest.raises(DataError, match=r"a\.npy cannot be read"):
        numpy_files.load(path, mapped_from=limit)


@pytest.mark.parametrize(
    "array",
    [np.array([None]), np.zeros(2, [("x", float), ("y", object)]), np.zeros(2, "datetime64[s]")],
    ids=["objects", "fields", "dates"],
)
def test_what_is_no_number_is_refused(tmp_path, array):
    np.savez(tmp_path / "a.npz", images=array)
    with pytest.raises(DataError, match=r"a\.npz cannot be read: .*no"):
        numpy_files.load(tmp_path / "a.npz")


def test_a_shape_beyond_the_file_reserves_no_memory(tmp_path):
    content = stored(IMAGES).replace(b"(20, 9, 8)", b"(2**9, 8)")
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        numpy_files.load(tmp_path / "a.npy")
    content = stored(np.zeros((10_000_000, 1), bool))[:128] + b"little"
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match="cut short"):
        numpy_files.load(tmp_path / "a.npy")


def test_what_memory_cannot_hold_is_refused_with_the_remedy(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", images=IMAGES)
    monkeypatch.setattr("os.sysconf", lambda name: 10)
    with pytest.raises(DataError, match=r"a\.npz would be read into memory.*uncompressed"):
        numpy_files.load(tmp_path / "a.npz")

import numpy as np
import pytest

from jaxscore import data
from jaxscore.data import images
from jaxscore.data.formats import pictures

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3)).astype(np.uint8)


def dataset(pixels=PIXELS, labels=None, **conditions):
    labels = np.arange(len(pixels)) % 3 if labels is None else labels
    return data.Dataset(images.held(pixels), labels.astype(np.int32), conditions)


def changed(array, place):
    array = array.copy()
    array[place] += 1
    return array


def test_every_change_in_memory_is_another_fingerprint():
    labels, y = np.arange(40) % 3, np.zeros((40, 2), np.float32)
    found = [
        dataset(),
        dataset(changed(PIXELS, (39, 5, 4, 2))),
        dataset(PIXELS[:-1]),
        dataset(PIXELS[::-1]),
        dataset(PIXELS.reshape(40, 5, 6, 3)),
        dataset(labels=changed(labels, 39)),
        dataset(y=y),
        dataset(y=changed(y, (39, 1))),
        dataset(z=y),
        data.Dataset(data.pixels.unit(PIXELS), labels),
    ]
    prints = [data.fingerprint(each) for each in found]
    assert len(set(prints)) == len(prints)
    assert prints == [data.fingerprint(each) for each in found]
    assert {len(each) for each in prints} == {16}
    assert data.fingerprint(dataset(np.asfortranarray(PIXELS))) == prints[0]


def write(folder, n=12):
    folder.mkdir()
    for number in range(n):
        (folder / f"{number:02}.png").write_bytes(pictures.encode(PIXELS[number]))
    return folder


@pytest.fixture(params=["in memory", "read when needed"])
def _small_or_large(request, monkeypatch):
    if request.param != "in memory":
        monkeypatch.setattr(images, "RESIDENT_BYTES", 0)


@pytest.mark.usefixtures("_small_or_large")
def test_a_folder_that_grew_or_changed_has_another(tmp_path):
    """A copy of the folder has the same fingerprint."""
    of = lambda folder: data.fingerprint(data.load(f"folder:{folder}"))
    folder, copy = write(tmp_path / "a"), write(tmp_path / "b")
    first = of(folder)
    assert of(copy) == first
    (folder / "12.png").write_bytes(pictures.encode(PIXELS[12]))
    grown = of(folder)
    (folder / "12.png").write_bytes(pictures.encode(PIXELS[13]))
    assert len({first, grown, of(folder)}) == 3


@pytest.mark.usefixtures("_small_or_large")
def test_another_file_in_the_same_place_has_another(tmp_path):
    def of(pixels):
        np.savez(tmp_path / "a.npz", images=pixels)
        return data.fingerprint(data.from_npz(tmp_path / "a.npz"))

    prints = [of(PIXELS), of(changed(PIXELS, (20, 0, 0, 0))), of(PIXELS[:-1])]
    assert len(set(prints)) == 3
    assert of(PIXELS) == prints[0]


def test_files_that_are_not_sampled_are_compared_by_size(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "RESIDENT_BYTES", 0)
    monkeypatch.setattr(data.fingerprints, "BLOCK", 1)  # 8 of 12 images
    of = lambda: data.fingerprint(data.load(f"folder:{folder}"))
    folder = write(tmp_path / "a")
    first = of()
    (folder / "11.png").write_bytes(pictures.encode(PIXELS[11]) + b"longer")
    assert of() != first
    (folder / "11.png").rename(folder / "99.png")
    assert len({first, of()}) == 2
    (folder / "00.png").unlink()
    with pytest.raises(data.DataError, match=str(folder)):
        data.fingerprint(
            data.Dataset(
                images.Images(PIXELS.__getitem__, (1, 1, 1, 1), files=[folder / "00.png"]), np.zeros(1)
            )
        )

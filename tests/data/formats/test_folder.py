import numpy as np
import pytest
from PIL import Image

from jaxscore.data import DataError, Images, images
from jaxscore.data.formats import folder

GENERATOR = np.random.default_rng(0)


def write(path, *shape):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = GENERATOR.integers(0, 256, shape).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_images_have_the_order_of_their_paths(tmp_path):
    """The folders are the classes."""
    b = write(tmp_path / "cats" / "b.png", 6, 6, 3)
    a = write(tmp_path / "cats" / "a.PNG", 6, 6, 3)
    c = write(tmp_path / "dogs" / "c.png", 6, 6, 3)
    (tmp_path / "notes.txt").write_text("not an image")
    loaded = folder.load(tmp_path)
    np.testing.assert_allclose(loaded.examples, np.stack([a, b, c]) / 255, rtol=1e-6)
    assert loaded.examples.dtype == np.float32
    np.testing.assert_array_equal(loaded.labels, [0, 0, 1])


def test_jpeg_is_read_and_size_cuts_a_square(tmp_path):
    Image.new("RGB", (40, 20), (255, 0, 51)).save(tmp_path / "a.jpg", quality=95)
    loaded = folder.load(tmp_path, size=10)
    assert loaded.examples.shape == (1, 10, 10, 3)
    # JPEG loses a little, even of one colour.
    np.testing.assert_allclose(loaded.examples[0][5, 5], [1, 0, 0.2], atol=0.02)


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("1", 1), ("LA", 1), ("P", 3), ("RGBA", 3), ("RGB", 3)]
)
def test_the_first_image_says_how_many_channels(tmp_path, mode, channels):
    write(tmp_path / "b.png", 4, 4, 3)
    write(tmp_path / "c.png", 4, 4)
    Image.new(mode, (4, 4)).save(tmp_path / "a.png")
    assert folder.load(tmp_path).examples.shape == (3, 4, 4, channels)


def test_large_folders_are_read_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "RESIDENT_BYTES", 0)
    pixels = [write(tmp_path / f"{i}.png", 5, 5) for i in range(4)]
    loaded = folder.load(tmp_path).examples
    assert isinstance(loaded, Images)
    assert loaded.shape == (4, 5, 5, 1)
    np.testing.assert_allclose(loaded[[3, 1]][..., 0], np.stack([pixels[3], pixels[1]]) / 255, rtol=1e-6)


def test_a_damaged_image_is_named_when_it_is_read(tmp_path, monkeypatch):
    """The first one is read at once."""
    monkeypatch.setattr(images, "RESIDENT_BYTES", 0)
    for i in range(4):
        write(tmp_path / f"{i}.png", 9, 9, 3)
    (tmp_path / "2.png").write_bytes(b"text")
    loaded = folder.load(tmp_path).examples
    assert loaded[[0, 1, 3]].shape == (3, 9, 9, 3)
    with pytest.raises(DataError, match=r"2\.png \(image 2\) cannot be read"):
        loaded[[0, 2]]
    (tmp_path / "0.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"0\.png \(image 0\) cannot be read"):
        folder.load(tmp_path)


def test_images_of_two_sizes_need_a_size(tmp_path):
    write(tmp_path / "a.png", 6, 6, 3)
    write(tmp_path / "b.png", 8, 6, 3)
    with pytest.raises(DataError, match=r"b\.png \(image 1\) is \[8, 6, 3\], not \[6, 6, 3\].*choose a size"):
        folder.load(tmp_path)
    assert folder.load(tmp_path, size=5).examples.shape == (2, 5, 5, 3)


def test_nothing_there_is_one_line(tmp_path):
    with pytest.raises(DataError, match="no folder"):
        folder.load(tmp_path / "absent")
    with pytest.raises(DataError, match=r"no \.png or \.jpg"):
        folder.load(tmp_path)

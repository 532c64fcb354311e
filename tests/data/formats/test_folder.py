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
    with pytest.warns(UserWarning, match=r"3 pictures; skipped 1 \.txt"):
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
    ("mode", "channels"), [("L", 1), ("1", 1), ("LA", 1), ("P", 3), ("RGBA", 3), ("RGB", 3), ("I;16", 1)]
)
def test_one_picture_in_colour_makes_all_rgb(tmp_path, mode, channels):
    """The first one is grey, the last one has the mode."""
    write(tmp_path / "a.png", 4, 4)
    Image.new(mode, (4, 4)).save(tmp_path / "z.png")
    assert folder.load(tmp_path).examples.shape == (2, 4, 4, channels)


def test_many_files_are_looked_at_at_even_distances(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "HEADERS", 2)
    for number in range(4):
        write(tmp_path / f"{number}.png", *((4, 4, 3) if number == 2 else (4, 4)))
    assert folder.load(tmp_path).examples.shape[-1] == 3
    write(tmp_path / "2.png", 4, 4)
    write(tmp_path / "3.png", 4, 4, 3)
    assert folder.load(tmp_path).examples.shape[-1] == 1


@pytest.mark.parametrize(
    "name", ["a.png", "a.PNG", "a.jpg", "a.Jpeg", "a.JFIF", "a.webp", "a.bmp", "a.tif", "a.TIFF", "a.gif"]
)
def test_each_format_is_read_in_any_letter_case(tmp_path, name):
    kind = Image.registered_extensions()[f".{name.lower().split('.')[1]}"]
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / name, kind)
    # JPEG and WebP lose a little.
    np.testing.assert_allclose(folder.load(tmp_path).examples[0][4, 4], [1, 0, 0], atol=0.02)


def test_what_is_skipped_is_counted_in_one_line(tmp_path):
    write(tmp_path / "cats" / "a.png", 4, 4)
    for name in (".ipynb_checkpoints/a.png", "__MACOSX/cats/a.png", ".hidden/a.png"):
        write(tmp_path / name, 4, 4)
    for name in ("cats/._a.png", "cats/.DS_Store", "notes.txt", "b.heic", "c.HEIC", "LICENCE"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="skipped") as said:
        loaded = folder.load(tmp_path)
    (line,) = [str(each.message) for each in said]
    assert {"5 hidden", "2 .heic", "1 .txt", "1 without ending"} == set(line.split("skipped ")[1].split(", "))
    assert len(loaded.examples) == loaded.classes == 1


def test_linked_class_folders_are_followed_without_end(tmp_path):
    dogs = write(tmp_path / "elsewhere" / "dogs" / "b.png", 4, 4)
    cats = write(tmp_path / "set" / "cats" / "a.png", 4, 4)
    (tmp_path / "set" / "dogs").symlink_to(tmp_path / "elsewhere" / "dogs")
    (tmp_path / "set" / "dogs" / "round").symlink_to(tmp_path / "set")
    with pytest.warns(UserWarning, match="skipped 1 linked to a folder around it"):
        loaded = folder.load(tmp_path / "set")
    np.testing.assert_array_equal(loaded.examples.take(np.arange(2))[..., 0], [cats, dogs])
    np.testing.assert_array_equal(loaded.labels, [0, 1])


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "it is empty"), (b"<html>gone</html>", "its 17 bytes begin with b'<html>gone</html>'")],
)
def test_what_is_no_picture_is_named_with_what_it_is(tmp_path, content, said):
    write(tmp_path / "a.png", 4, 4)
    (tmp_path / "b.png").write_bytes(content)
    with pytest.raises(DataError, match=rf"b\.png \(image 1\) cannot be read: {said}") as caught:
        folder.load(tmp_path)
    assert "0x" not in str(caught.value)


@pytest.mark.parametrize("limit", [0, 2**30])
def test_pictures_of_0_and_1_are_refused(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(images, "RESIDENT_BYTES", limit)
    Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"bytes from 0 to 1, .*multiply them by 255"):
        folder.load(tmp_path)
    Image.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "mask.png")  # of one bit: black and white
    np.testing.assert_array_equal(folder.load(tmp_path).examples[0][..., 0], np.eye(4))


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

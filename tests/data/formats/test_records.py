"""Records written by hand; test_tfds.py has whole directories of records."""

from pathlib import Path

import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from jaxscore.data import DataError, images
from jaxscore.data.formats import pictures, records
from jaxscore.data.formats.records import Example

PIXELS = np.random.default_rng(0).integers(0, 256, (700, 2, 3, 1)).astype(np.uint8)
EXAMPLE = Example(image="picture", mode="L", label="kind")


def record(number, **changes):
    made = tf_example_pb2.Example()
    feature = made.features.feature
    feature["picture"].bytes_list.value.append(changes.get("picture", pictures.encode(PIXELS[number])))
    feature["kind"].int64_list.value.append(changes.get("kind", number % 7))
    return made.SerializeToString()


RECORDS = [record(number) for number in range(700)]


class Source(list):
    """As tensorflow-datasets' are: it fetches many at once, and refuses all if one cannot be read."""

    def __getitems__(self, numbers):
        found = [self[number] for number in numbers]
        if None in found:
            raise RuntimeError("a chunk is corrupt")
        return found


WHERE = Path("where")


def at_random(*sources, example=EXAMPLE, cut=lambda image: image):
    return records.at_random(WHERE, [Source(part) for part in sources], example, cut)


def test_an_example_has_an_image_and_a_label():
    np.testing.assert_array_equal(EXAMPLE.image_of(RECORDS[5]), PIXELS[5])
    assert EXAMPLE.label_of(RECORDS[5]) == 5
    assert EXAMPLE._replace(label=None).label_of(RECORDS[5]) == 0
    for absent in (EXAMPLE.image_of, EXAMPLE.label_of):
        with pytest.raises((ValueError, IndexError)):
            absent(tf_example_pb2.Example().SerializeToString())


def test_sources_are_counted_one_after_another(monkeypatch):
    for limit in (images.RESIDENT_BYTES, 0):
        monkeypatch.setattr(images, "RESIDENT_BYTES", limit)
        loaded = at_random(RECORDS[:300], [], RECORDS[300:])
        assert loaded.examples.in_memory == (limit > 0)
        numbers = np.random.default_rng(1).permutation(700)
        np.testing.assert_array_equal(loaded.examples.take(numbers), PIXELS[numbers])
        np.testing.assert_array_equal(loaded.labels, np.arange(700) % 7)


def test_the_cut_is_made_of_every_image():
    loaded = at_random(RECORDS[:4], cut=lambda image: image[:, 1:])
    np.testing.assert_array_equal(loaded.examples.take(np.arange(4)), PIXELS[:4, :, 1:])


SIDEWAYS = pictures.encode(PIXELS[0].reshape(3, 2, 1))
SPOILT = {
    "chunk": (None, "cannot be read"),
    "record": (b"no example", "cannot be read"),
    "picture": (record(0, picture=b"no picture"), "cannot be read: its 10 bytes begin with"),
    "size": (record(0, picture=SIDEWAYS), r"is \[3, 2, 1\]"),
}


@pytest.mark.parametrize(("spoilt", "said"), SPOILT.values(), ids=SPOILT)
def test_a_damaged_image_has_its_number(monkeypatch, spoilt, said):
    monkeypatch.setattr(images, "RESIDENT_BYTES", 0)
    unlabelled = EXAMPLE._replace(label=None)  # so that it is the image that is read
    loaded = at_random(RECORDS[:400], [*RECORDS[400:402], spoilt, *RECORDS[403:]], example=unlabelled)
    assert loaded.examples.take(np.array([401, 403])).shape == (2, 2, 3, 1)
    with pytest.raises(DataError, match=rf"where \(image 402\) {said}"):
        loaded.examples.take(np.array([3, 401, 402]))


def test_labels_that_are_no_numbers_of_classes_are_refused():
    with pytest.raises(DataError, match=r"where \(image 1\) cannot be read"):
        at_random([RECORDS[0], record(1, kind=2**40)])


def test_no_examples_are_refused():
    with pytest.raises(DataError, match="no examples"):
        at_random([], [])

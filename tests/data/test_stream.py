import contextlib
import itertools
import sys
import threading
import time

import numpy as np
import pytest

from jaxscore import data
from jaxscore.data import DataError, Images, held, stream


def batches(x, **options):
    """The examples of the batches of one array."""
    with contextlib.closing(data.batches({"x": x}, **options)) as stream:
        yield from (batch["x"] for batch in stream)


CONTENT = np.arange(40, dtype=np.uint8).reshape(10, 2, 2, 1)


def take(count, **options):
    stream = batches(np.arange(10, dtype=np.float32)[:, None], **options)
    return [batch[:, 0].astype(int) for batch in itertools.islice(stream, count)]


@pytest.mark.parametrize("batch", [1, 4, 10, 23])
def test_batch_k_is_a_function_of_the_seed_and_k(batch):
    in_sequence = take(12, batch=batch, seed=3)
    for k in (0, 1, 5, 11):
        np.testing.assert_array_equal(take(1, batch=batch, seed=3, start=k)[0], in_sequence[k])
    np.testing.assert_array_equal(take(12, batch=batch, seed=3), in_sequence)
    assert not np.array_equal(np.concatenate(take(12, batch=batch, seed=4)), np.concatenate(in_sequence))


@pytest.mark.parametrize("batch", [1, 4, 10, 23])
def test_epochs_are_permutations_and_batches_cross_epochs(batch):
    # lcm: whole epochs and whole batches, several of each.
    stream = np.concatenate(take(230 // batch if 230 % batch == 0 else 10, batch=batch, seed=0))
    epochs = stream[: len(stream) // 10 * 10].reshape(-1, 10)
    assert len(np.unique(epochs, axis=0)) == len(epochs) >= 4
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(10), (len(epochs), 1)))


def test_batches_keep_the_event_shape_and_dtype():
    batch = next(batches(np.zeros((5, 4, 4, 1), np.float32), batch=8, seed=0))
    assert (batch.shape, batch.dtype) == ((8, 4, 4, 1), np.float32)


@pytest.mark.parametrize(("n", "batch"), [(0, 4), (5, 0)])
def test_batches_of_nothing_are_refused(n, batch):
    with pytest.raises(ValueError, match=r"batch >= 1"):
        next(batches(np.zeros((n, 2), np.float32), batch=batch, seed=0))


# The rows of a process ----------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [4, 10, 23])
def test_rows_are_these_of_the_whole_batch(batch):
    whole = take(8, batch=batch, seed=3)
    for rows in (np.arange(batch // 2), np.array([3, 0]), np.arange(batch)[::-1], np.array([], int)):
        found = take(8, batch=batch, seed=3, rows=rows)
        np.testing.assert_array_equal(found, [each[rows] for each in whole])


@pytest.mark.parametrize("rows", [[4], [-1], [[0, 1]], 0])
def test_rows_that_no_batch_has_are_refused(rows):
    with pytest.raises(ValueError, match=r"in 0\.\.3"):
        data.batches({"x": held(CONTENT)}, batch=4, seed=0, rows=np.array(rows))


def test_only_the_rows_are_read():
    asked = []

    def read(numbers):
        asked.extend(numbers.tolist())
        return CONTENT[numbers]

    images = Images(read, CONTENT.shape, in_memory=True)
    whole = next(batches(np.arange(10.0)[:, None], batch=8, seed=1))[:, 0]
    next(batches(images, batch=8, seed=1, rows=np.array([2, 5])))
    assert asked == whole[[2, 5]].tolist()


# Ahead of time ------------------------------------------------------------------------------------


def slowly(numbers):
    time.sleep(0.001 * (numbers.sum() % 7))  # so that batches are not ready in their order
    return CONTENT[numbers]


LAZY = Images(slowly, CONTENT.shape)


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("grain")]


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("start", [0, 7, 10**12])
def test_what_is_read_ahead_is_what_is_read_in_turn(start):
    ahead = batches(LAZY, batch=4, seed=0, start=start)
    in_turn = batches(held(CONTENT), batch=4, seed=0, start=start)
    for ours, theirs in itertools.islice(zip(ahead, in_turn, strict=False), 20):
        np.testing.assert_array_equal(ours, theirs, strict=True)
    ahead.close()


def test_batches_are_read_ahead_and_threads_end():
    read = []
    images = Images(lambda numbers: read.append(1) or CONTENT[numbers], CONTENT.shape)
    ahead = batches(images, batch=4, seed=0)
    next(ahead)
    wait_until(lambda: len(read) == 1 + stream.AHEAD)
    assert threads()
    ahead.close()
    wait_until(lambda: not threads())
    with pytest.raises(StopIteration):
        next(ahead)


def test_without_grain_images_are_read_when_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    read = []
    images = Images(lambda numbers: read.append(1) or CONTENT[numbers], CONTENT.shape)
    in_turn = batches(held(CONTENT), batch=4, seed=0)
    for number, found in enumerate(itertools.islice(batches(images, batch=4, seed=0), 5)):
        np.testing.assert_array_equal(found, next(in_turn))
        assert len(read) == number + 1


def test_what_is_in_memory_needs_no_thread_and_no_grain(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    for examples in (CONTENT.astype(np.float32), held(CONTENT)):
        before = threading.active_count()
        assert next(batches(examples, batch=4, seed=0)).shape == (4, 2, 2, 1)
        assert threading.active_count() == before


def test_an_unreadable_image_is_an_error_when_its_batch_is_due():
    def read(numbers):
        if 5 in numbers:
            raise DataError("a.png (image 5) cannot be read")
        return CONTENT[numbers]

    numbers = batches(np.arange(10.0)[:, None], batch=2, seed=0)
    due = next(step for step, batch in enumerate(numbers) if 5 in batch)
    assert due == 2  # of this seed: the error comes neither at once nor never
    stream_of_images = batches(Images(read, CONTENT.shape), batch=2, seed=0)
    for _ in range(due):
        assert next(stream_of_images).shape == (2, 2, 2, 1)
    with pytest.raises(DataError) as caught:
        next(stream_of_images)
    assert str(caught.value) == "a.png (image 5) cannot be read"


# Several arrays -----------------------------------------------------------------------------------


def test_a_batch_has_the_rows_of_all_arrays():
    source = data.Dataset(held(CONTENT), np.arange(10), {"y": np.arange(20.0).reshape(10, 2)})
    for batch in itertools.islice(data.batches(source, batch=4, seed=0), 5):
        assert set(batch) == {"x", "label", "y"}
        np.testing.assert_array_equal(batch["x"], CONTENT[batch["label"]])
        np.testing.assert_array_equal(batch["y"][:, 0], 2.0 * batch["label"])


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"different numbers of rows: \{'x': 10, 'label': 9\}"):
        data.batches({"x": held(CONTENT), "label": np.arange(9)}, batch=4, seed=0)

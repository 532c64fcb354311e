import itertools

import numpy as np
import pytest

from jaxscore.data import Images, batches


def take(count, **options):
    examples = np.arange(10, dtype=np.float32)[:, None]
    stream = batches(examples, **options)
    return [batch[:, 0].astype(int) for batch in itertools.islice(stream, count)]


@pytest.mark.parametrize("batch", [1, 4, 10, 23])
def test_batch_k_is_a_function_of_the_seed_and_k(batch):
    in_sequence = take(12, batch=batch, seed=3)
    for k in (0, 1, 5, 11):
        np.testing.assert_array_equal(take(1, batch=batch, seed=3, start=k)[0], in_sequence[k])
    np.testing.assert_array_equal(take(12, batch=batch, seed=3), in_sequence)
    assert not np.array_equal(np.concatenate(take(12, batch=batch, seed=4)), np.concatenate(in_sequence))


@pytest.mark.parametrize("batch", [1, 4, 10, 23])
def test_every_epoch_is_another_permutation_and_batches_cross_epochs(batch):
    # lcm: whole epochs and whole batches, several of each.
    stream = np.concatenate(take(230 // batch if 230 % batch == 0 else 10, batch=batch, seed=0))
    epochs = stream[: len(stream) // 10 * 10].reshape(-1, 10)
    assert len(epochs) >= 4
    for epoch in epochs:
        assert sorted(epoch) == list(range(10))
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == len(epochs)


def test_batches_keep_the_event_shape_and_dtype():
    batch = next(batches(np.zeros((5, 4, 4, 1), np.float32), batch=8, seed=0))
    assert batch.shape == (8, 4, 4, 1)
    assert batch.dtype == np.float32


@pytest.mark.parametrize(("n", "batch"), [(0, 4), (5, 0)])
def test_batches_of_nothing_are_refused(n, batch):
    with pytest.raises(ValueError, match=r"batch >= 1"):
        next(batches(np.zeros((n, 2), np.float32), batch=batch, seed=0))


def test_batches_of_images_are_the_batches_of_the_array_they_make():
    content = np.random.default_rng(0).integers(0, 256, (10, 4, 3, 1)).astype(np.uint8)
    images = Images(lambda number: content[number], content.shape)
    lazy = batches(images, batch=7, seed=1)
    resident = batches(images[:], batch=7, seed=1)
    for _ in range(4):
        np.testing.assert_array_equal(next(lazy), next(resident))

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import metrics, sharding

IMAGES = np.random.default_rng(0).integers(0, 256, (43, 4, 4, 1), dtype=np.uint8)
KERNEL = np.random.default_rng(1).standard_normal((16, 5)).astype(np.float32)


def network(x, kernel):
    flat = x.reshape(len(x), -1).astype(jnp.float32) / 255
    return jnp.tanh(flat @ kernel)


def expected(images):
    return np.tanh(images.reshape(len(images), -1).astype(np.float32) / 255 @ KERNEL)


@pytest.mark.parametrize("shape", [(8, 1), (2, 4)])
@pytest.mark.parametrize("n", [1, 16, 17, 43])
def test_every_row_has_its_features_the_last_ones_too(shape, n):
    features = metrics.mapped(network, sharding.mesh(*shape), batch=16)
    found = features(IMAGES[:n], KERNEL)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected(IMAGES[:n]), rtol=1e-6, atol=1e-6, strict=True)


def test_it_is_compiled_once_and_sees_its_part_of_real_rows_alone():
    traced, seen = [], []

    def watched(x):
        traced.append(x.shape)
        jax.debug.callback(lambda part: seen.append(np.asarray(part)), x)
        return x.sum(axis=(1, 2, 3), dtype=jnp.float32)

    mesh = sharding.mesh(devices=jax.devices()[:2])
    features = metrics.mapped(watched, mesh, batch=8)
    found = features(IMAGES)
    jax.effects_barrier()
    np.testing.assert_allclose(found, IMAGES.sum(axis=(1, 2, 3)))
    assert traced == [(8, 4, 4, 1)]
    # A tail is filled with copies of its last row: zeros may be no image that the network can take.
    known = {row.tobytes() for row in IMAGES}
    assert {row.tobytes() for part in seen for row in part} == known


def test_a_memory_mapped_file_is_read_batch_by_batch(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    features = metrics.mapped(network, sharding.mesh(), batch=8)
    np.testing.assert_array_equal(features(mapped, KERNEL), features(IMAGES, KERNEL))
    np.testing.assert_array_equal(features(jnp.asarray(IMAGES), KERNEL), features(IMAGES, KERNEL))


@pytest.mark.parametrize("batch", [0, -8, 12])
def test_a_batch_that_the_devices_do_not_divide_is_refused(batch):
    with pytest.raises(ValueError, match=f"batch = {batch}"):
        metrics.mapped(network, sharding.mesh(), batch=batch)


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="no rows"):
        metrics.mapped(network, sharding.mesh(), batch=8)(IMAGES[:0], KERNEL)

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial.distance
import sklearn.decomposition

from jaxscore import data, metrics, sharding

DIGITS = data.digits().examples
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


def test_it_is_compiled_once_and_sees_real_rows_alone():
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


# Principal components -------------------------------------------------------------------------


def test_principal_components_are_those_of_a_full_decomposition():
    features = metrics.principal_components(DIGITS[:500], components=6)
    flat = DIGITS.reshape(1797, 64).astype(float)
    theirs = sklearn.decomposition.PCA(6, svd_solver="full").fit(flat[:500]).transform(flat)
    ours = features(DIGITS)
    # Up to the sign of each; both are exact but for float32.
    np.testing.assert_allclose(ours * np.sign(np.sum(ours * theirs, axis=0)), theirs, atol=1e-3)


def test_all_principal_components_keep_all_distances():
    features = metrics.principal_components(DIGITS[:200])(DIGITS[:200])
    assert features.shape == (200, 64)
    pixels = DIGITS[:200].reshape(200, 64).astype(float)
    pairs = scipy.spatial.distance.pdist
    np.testing.assert_allclose(pairs(features), pairs(pixels), atol=1e-5)  # float32


def test_principal_components_are_of_all_images():
    """The components are the same if the images are sorted."""
    # Whatever the first 4000 vary in, the others vary in more.
    rng = np.random.default_rng(0)
    x = np.zeros((9001, 2, 2, 1))
    x[:4500, 0, 0, 0] = rng.standard_normal(4500)
    x[4500:, 1, 1, 0] = 5 * rng.standard_normal(4501)
    direction = metrics.principal_components(x, components=1)(np.eye(4).reshape(4, 2, 2, 1))
    direction = np.abs(direction - direction.mean())[:, 0]
    assert direction.argmax() == 3
    assert metrics.principal_components(x[:3])(x).shape == (9001, 3)  # no more than there are images

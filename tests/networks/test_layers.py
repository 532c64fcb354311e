import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import noise
from jaxscore.networks import layers


def test_noise_embedding_tells_levels_apart_and_examples_not():
    embedding = layers.NoiseEmbedding(width=16)
    c_noise = jnp.log(jnp.geomspace(0.002, 80.0, 9)) / 4
    params = embedding.init(jax.random.key(0), c_noise)
    out = embedding.apply(params, c_noise)
    assert out.shape == (9, 16)
    distances = np.linalg.norm(np.asarray(out)[:, None] - np.asarray(out)[None], axis=2)
    assert np.all(distances[~np.eye(9, dtype=bool)] > 0.05)
    np.testing.assert_allclose(embedding.apply(params, c_noise[3:4])[0], out[3], rtol=1e-5, atol=1e-6)


def test_noise_embedding_keeps_the_phase_in_float32():
    # 32 radians a unit: in bfloat16 the phase of c_noise = 1 would be off by 0.1, and two levels one
    # per cent apart would be the same.
    embedding = layers.NoiseEmbedding(width=16, dtype=jnp.bfloat16)
    c_noise = jnp.array([1.0, 1.002])
    params = embedding.init(jax.random.key(0), c_noise)
    assert embedding.apply(params, c_noise).dtype == jnp.bfloat16
    full = layers.NoiseEmbedding(width=16).apply(params, c_noise)
    error = np.abs(np.asarray(embedding.apply(params, c_noise), float) - np.asarray(full, float))
    assert error.max() < 0.02


def test_modulation_starts_as_the_identity_and_then_is_affine():
    modulation = layers.Modulation()
    x, e = jnp.ones((2, 4, 4, 3)), jnp.array([[1.0, 0.0], [0.0, 1.0]])
    params = modulation.init(jax.random.key(0), x, e)
    np.testing.assert_array_equal(modulation.apply(params, x, e), x)
    # By hand: the kernel's first 3 columns are the scale, the last 3 the shift, of each example's own.
    kernel = jnp.array([[1.0, 2.0, 3.0, 10.0, 20.0, 30.0], [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]])
    params["params"]["Dense_0"]["kernel"] = kernel
    out = modulation.apply(params, 2 * x, e)
    np.testing.assert_allclose(out[0, 1, 2], [2 * 2 + 10, 2 * 3 + 20, 2 * 4 + 30])
    np.testing.assert_allclose(out[1, 3, 0], [3.0, 3.0, 3.0])


def test_mapping_sees_the_direction_of_a_latent_alone():
    """The length of the latent changes nothing."""
    mapping = layers.Mapping(width=8, depth=2)
    z = noise.normal(jax.random.key(0), (3, 5))
    params = mapping.init(jax.random.key(1), z)
    out = mapping.apply(params, z)
    assert out.shape == (3, 8)
    np.testing.assert_allclose(mapping.apply(params, 7.0 * z), out, rtol=1e-4, atol=1e-6)
    # By hand.
    p = jax.device_get(params)["params"]
    h = np.asarray(z, float)
    h = h / np.sqrt((h**2).mean(axis=1, keepdims=True))
    for name in ("Dense_0", "Dense_1"):
        h = h @ p[name]["kernel"] + p[name]["bias"][None]
        h = h / (1 + np.exp(-h))
    np.testing.assert_allclose(out, h, rtol=1e-4, atol=1e-6)


def test_minibatch_deviation_is_that_of_neighbours():
    h = noise.normal(jax.random.key(0), (6, 4, 2, 3))
    out = layers.MinibatchDeviation(group=3).apply({}, h)
    assert out.shape == (6, 4, 2, 4)
    np.testing.assert_array_equal(out[..., :3], h)
    for group in (slice(0, 3), slice(3, 6)):
        expected = np.std(np.asarray(h[group], float), axis=0).mean()
        np.testing.assert_allclose(out[group, ..., 3], np.full((3, 4, 2), expected), rtol=1e-5)
    # Groups of as many as divide the batch too: of 2 here, and of 1 where nothing does.
    halves = layers.MinibatchDeviation(group=4).apply({}, h)[::2, 0, 0, 3]
    expected = np.asarray(h).reshape(3, 2, -1).std(axis=1).mean(axis=1)
    np.testing.assert_allclose(halves, expected, rtol=1e-5)
    same = jnp.ones((4, 2))
    slope = jax.grad(lambda h: layers.MinibatchDeviation().apply({}, h)[:, 2].sum())(same)
    np.testing.assert_allclose(slope, np.zeros((4, 2)), atol=1e-6)  # finite where all are alike


# Labels -------------------------------------------------------------------------------------------


REFUSED = {
    "below": (jnp.array([3, -1]), r"label -1 is not in 0\.\.9"),
    "above": (jnp.array([3, 11]), r"label 11 is not in 0\.\.9"),
    "floats": (jnp.ones(2), "labels are float32: class numbers must be integers"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_labels_that_are_no_class_numbers_are_refused(kind):
    labels, message = REFUSED[kind]
    with pytest.raises(ValueError, match=message):
        layers.require_classes(labels, 10)


def test_labels_are_looked_at_where_they_are_known():
    """The number of classes means "none". Within jit, bound labels are known and arguments are not."""
    good, bad = jnp.array([3, 10]), jnp.array([3, 11])
    jax.jit(lambda: layers.require_classes(good, 10))()
    jax.jit(lambda labels: layers.require_classes(labels, 10))(bad)
    with pytest.raises(ValueError, match="label 11"):
        jax.jit(lambda: layers.require_classes(bad, 10))()


def test_class_numbers_are_looked_up_and_none_has_a_row():
    embedding = layers.ConditionEmbedding(width=5, classes=3)
    labels = jnp.array([0, 1, 2, 3, 1])
    params = embedding.init(jax.random.key(0), labels)
    out = np.asarray(embedding.apply(params, labels))
    assert len(np.unique(out.round(6), axis=0)) == 4
    np.testing.assert_array_equal(out[1], out[4])
    # Traced, a number beyond the table is no neighbouring class and not nan.
    np.testing.assert_array_equal(jax.jit(embedding.apply)(params, jnp.array([7, -1])), np.zeros((2, 5)))
    with pytest.raises(ValueError, match=r"label 7 is not in 0\.\.2"):
        embedding.apply(params, jnp.array([7]))


@pytest.mark.parametrize("shape", [(4,), (2, 3), (3, 3, 1)])
def test_vectors_and_arrays_are_embedded(shape):
    embedding, condition = layers.ConditionEmbedding(width=5), jnp.ones((2, *shape))
    params = embedding.init(jax.random.key(0), condition)
    assert embedding.apply(params, condition).shape == (2, 5)


def test_class_numbers_without_their_number_are_refused():
    with pytest.raises(ValueError, match="give the network its number of classes"):
        layers.ConditionEmbedding(width=5).init(jax.random.key(0), jnp.zeros(3, int))

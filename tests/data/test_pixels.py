import jax
import jax.numpy as jnp
import numpy as np

from jaxscore import data, noise

BYTES = np.arange(256, dtype=np.uint8)


def test_bytes_become_floats_in_zero_to_one():
    scaled = data.pixels.unit(BYTES)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, np.arange(256) / 255, rtol=1e-7)  # rounded once, to float32


def test_the_device_scales_as_numpy_does_to_the_bit():
    for function in (data.pixels.unit, jax.jit(data.pixels.unit)):
        scaled = function(jnp.asarray(BYTES))
        assert isinstance(scaled, jax.Array)
        np.testing.assert_array_equal(scaled, data.pixels.unit(BYTES))


def test_floats_are_left_alone():
    for floats in (np.array([0.3, 2.0]), jnp.array([0.3, -1.0])):
        assert data.pixels.unit(floats) is floats


# Mirror images ------------------------------------------------------------------------------------

IMAGES = np.random.default_rng(0).integers(0, 256, (400, 3, 4, 2)).astype(np.uint8)


def mirrored(key, images=IMAGES):
    """Which of the images are mirrored; fails if one is neither mirrored nor itself."""
    found = np.asarray(jax.jit(data.pixels.flip)(key, images))
    turned, same = (found == images[:, :, ::-1]), (found == images)
    turned, same = turned.all(axis=(1, 2, 3)), same.all(axis=(1, 2, 3))
    np.testing.assert_array_equal(turned, ~same)
    return turned


def test_half_of_the_images_are_mirrored_left_to_right():
    # 400 tosses of a coin: 200, give or take 10; 45 is 4.5 of that.
    assert abs(mirrored(jax.random.key(0)).sum() - 200) < 45


def test_bytes_and_floats_are_mirrored_alike():
    key = jax.random.key(1)
    of_bytes = data.pixels.flip(key, IMAGES)
    of_floats = data.pixels.flip(jax.random.clone(key), data.pixels.unit(IMAGES))
    assert of_bytes.dtype == np.uint8
    np.testing.assert_array_equal(data.pixels.unit(of_bytes), of_floats)


def test_an_image_is_mirrored_by_its_own_key():
    key = jax.random.key(2)
    all_rows = mirrored(key)
    np.testing.assert_array_equal(mirrored(jax.random.clone(key), IMAGES[:7]), all_rows[:7])
    keys = noise.row_keys(jax.random.clone(key), 400)
    np.testing.assert_array_equal(mirrored(keys[5:9], IMAGES[5:9]), all_rows[5:9])

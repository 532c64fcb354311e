"""Grey values with noise, and bits per dimension."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxscore import likelihood, noise
from jaxscore.likelihood import LogDensity

BYTES = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)


def density(value, error=0.0):
    value = jnp.asarray(value, jnp.float32)
    return LogDensity(value, jnp.full_like(value, error), jnp.zeros(len(value), int))


def test_every_grey_value_fills_its_cell():
    """256 bins and 256 values: (k + u) / 256 tiles 0..1."""
    found = likelihood.dequantise(jax.random.key(0), BYTES, draws=50)
    counts, _ = np.histogram(np.asarray(found.x, float), bins=256, range=(0, 1))
    np.testing.assert_array_equal(counts, 50)
    assert float(found.x.max()) < 1


def test_the_noise_is_uniform_and_belongs_to_the_row():
    found = likelihood.dequantise(jax.random.key(0), BYTES, draws=20)
    u = np.asarray(found.x, float) * 256 - np.repeat(BYTES, 20, axis=0)
    assert scipy.stats.kstest(u.ravel(), "uniform").pvalue > 1e-3
    keys = noise.row_keys(jax.random.key(0), 4)
    part = likelihood.dequantise(keys[2:3], BYTES[2:3], draws=20)
    np.testing.assert_array_equal(part.x, found.x[40:60])
    few = likelihood.dequantise(jax.random.key(0), BYTES, draws=2)
    np.testing.assert_array_equal(few.x[::2], found.x[::20])


def test_bytes_and_numbers_are_the_same_images():
    numbers = BYTES.astype(np.float32) / 255
    for given in (BYTES, jnp.asarray(BYTES), numbers, jnp.asarray(numbers)):
        found = likelihood.dequantise(jax.random.key(0), given)
        np.testing.assert_array_equal(jnp.floor(found.x * 256), BYTES)


def test_the_probabilities_of_all_images_add_up_to_one():
    """The density is uniform on -1..1, in the units of the score. Each pixel has 4 values, so 2 bits."""
    images = np.array([[0], [1], [2], [3]], np.uint8)
    encode = lambda y: 2 * y - 1
    found = likelihood.dequantise(jax.random.key(0), images, values=4, encode=encode)
    inside = (jnp.abs(found.x) < 1).all(axis=1)
    bits = likelihood.bits_per_dimension(density(jnp.where(inside, jnp.log(0.5), -jnp.inf)), found)
    np.testing.assert_allclose(bits.value, 2.0, rtol=1e-6)
    np.testing.assert_allclose(jnp.sum(2.0**-bits.value), 1.0, rtol=1e-6)


def test_black_images_have_no_negative_bits():
    """A model with all its mass in a narrow peak: the density is large, the probability is at most one."""
    images = np.zeros((2000, 1), np.uint8)
    found = likelihood.dequantise(jax.random.key(0), images)
    for width in (1e-4, 1e-3, 1e-2):
        log_p = scipy.stats.norm.logpdf(np.asarray(found.x, float), 0.5 / 256, width)[:, 0]
        assert float(likelihood.bits_per_dimension(density(log_p), found).value.mean()) > 0


def test_more_draws_are_a_tighter_bound_of_the_same_probability():
    images = np.full((500, 1), 100, np.uint8)
    log_p = lambda x: scipy.stats.norm.logpdf(np.asarray(x, float), 100.2 / 256, 0.15 / 256)[:, 0]
    edges = scipy.stats.norm.cdf([100 / 256, 101 / 256], 100.2 / 256, 0.15 / 256)
    truth = -np.log2(edges[1] - edges[0])
    means = []
    for draws in (1, 8, 64):
        found = likelihood.dequantise(jax.random.key(0), images, draws=draws)
        means.append(float(likelihood.bits_per_dimension(density(log_p(found.x)), found).value.mean()))
    assert means[0] > means[1] > means[2] > truth - 0.02
    assert means[2] < truth + 0.05


def test_errors_of_draws_are_weighted_by_their_probabilities():
    found = likelihood.dequantise(jax.random.key(0), np.zeros((1, 4), np.uint8), draws=2)
    value = jnp.array([0.0, jnp.log(3.0)])
    bits = likelihood.bits_per_dimension(LogDensity(value, jnp.array([0.4, 0.8]), jnp.zeros(2, int)), found)
    expected = np.hypot(0.25 * 0.4, 0.75 * 0.8) / (4 * np.log(2))
    np.testing.assert_allclose(bits.standard_error, expected, rtol=1e-6)


def test_inside_jit_it_is_the_same():
    encode = lambda y: 2 * y - 1
    jitted = jax.jit(lambda key, x: likelihood.dequantise(key, x, encode=encode)[:2])
    x, volume = jitted(jax.random.key(0), BYTES)
    found = likelihood.dequantise(jax.random.key(0), BYTES, encode=encode)
    np.testing.assert_allclose(x, found.x, atol=1e-6)
    np.testing.assert_allclose(volume, found.log_volume, rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (
            {"images": BYTES / np.float32(300)},
            "256 grey values are integers in 0..255, or k / 255 in 0..1",
        ),
        ({"images": BYTES, "values": 17}, "17 grey values are integers in 0..16, .* these are uint8 0..255"),
        ({"images": np.full((2, 3), -1.0, np.float32)}, "these are float32 -1..-1"),
        ({"images": np.full((2, 3), np.nan, np.float32)}, "these are float32 nan..nan"),
        ({"images": BYTES, "encode": jnp.square}, "encode is not linear"),
        ({"images": BYTES, "encode": lambda y: 0 * y}, "encode is not linear"),
        ({"images": BYTES[:0]}, "at least one row and one number are needed"),
        ({"images": BYTES, "encode": jnp.ravel}, "encode returns shape"),
        ({"images": BYTES, "draws": 0}, "draws = 0 must be at least 1"),
        ({"images": BYTES, "values": 1}, "values = 1 at least 2"),
    ],
)
def test_what_has_no_grey_values_is_refused(given, reason):
    with pytest.raises(ValueError, match=reason):
        likelihood.dequantise(jax.random.key(0), **given)


def test_bits_of_what_was_not_dequantised_are_refused():
    with pytest.raises(TypeError, match=r"of grey values: give dequantised = dequantise\(key, images\)"):
        likelihood.bits_per_dimension(density([1.0, 2.0]), jnp.zeros((2, 3)))
    found = likelihood.dequantise(jax.random.key(0), BYTES)
    with pytest.raises(ValueError, match="has not the rows of"):
        likelihood.bits_per_dimension(density([1.0]), found)


def test_inside_jit_what_is_wrong_is_nan():
    def dequantised(images, encode):
        return likelihood.dequantise(jax.random.key(0), images, values=16, encode=encode)[:2]

    jitted = jax.jit(dequantised, static_argnums=1)
    x, _ = jitted(jnp.array([[200, 3]], jnp.uint8), lambda y: y)
    np.testing.assert_array_equal(jnp.isnan(x), [[True, False]])
    _, volume = jitted(jnp.array([[1, 3]], jnp.uint8), jnp.square)
    assert jnp.isnan(volume).all()

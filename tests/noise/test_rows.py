import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from jaxscore import noise
from tests.draws import assert_gaussian, assert_mean


@pytest.mark.parametrize("draw", [noise.normal, noise.rademacher, noise.sphere])
def test_a_row_does_not_depend_on_the_batch(draw):
    """An array of keys draws a part of the batch."""
    key = jax.random.key(3)
    large = draw(key, (10, 4, 2))
    np.testing.assert_array_equal(draw(key, (1, 4, 2)), large[:1])
    np.testing.assert_array_equal(draw(key, (7, 4, 2)), large[:7])
    np.testing.assert_array_equal(draw(noise.row_keys(key, 4, start=3), (4, 4, 2)), large[3:7])


def assert_equal_keys(found, expected):
    np.testing.assert_array_equal(*map(jax.random.key_data, (found, expected)))


def test_row_keys_are_the_key_folded_with_the_row_number():
    key = jax.random.key(5)
    keys = noise.row_keys(key, 6)
    assert_equal_keys(keys, jnp.stack([jax.random.fold_in(key, i) for i in range(6)]))
    assert_equal_keys(noise.row_keys(key, 2, start=jnp.asarray(4)), keys[4:])
    assert noise.row_keys(keys, 6) is keys


def test_fold_in_is_the_same_for_one_key_and_for_many():
    keys = noise.row_keys(jax.random.key(5), 3)
    folded = noise.fold_in(keys, 9)
    assert_equal_keys(folded, jnp.stack([noise.fold_in(one, 9) for one in keys]))
    assert not np.array_equal(jax.random.key_data(noise.fold_in(keys, 8)), jax.random.key_data(folded))


def test_normal_is_standard_normal():
    x = np.asarray(noise.normal(jax.random.key(0), (20_000, 2)), float)
    assert_gaussian(x[:, 0], 0, 1)
    assert_gaussian(x[:, 1], 0, 1)
    assert_mean(x[:, 0] * x[:, 1], 0)
    assert scipy.stats.kstest(x[:, 0], "norm").pvalue > 1e-4


def test_rademacher_is_a_fair_sign():
    v = np.asarray(noise.rademacher(jax.random.key(0), (20_000, 2)), float)
    assert set(np.unique(v)) == {-1.0, 1.0}
    assert_mean(np.column_stack([v, v[:, 0] * v[:, 1]]), 0)


def test_draws_have_the_dtype_asked_for():
    assert noise.normal(jax.random.key(0), (2, 3), jnp.bfloat16).dtype == jnp.bfloat16
    assert noise.normal(jax.random.key(1), (2, 3)).dtype == jnp.float32


def test_sphere_probes_have_length_root_d_and_unit_covariance():
    """D is the size of the whole event."""
    v = np.asarray(noise.sphere(jax.random.key(0), (20_000, 3, 2)))
    np.testing.assert_allclose(np.sum(v**2, axis=(1, 2)), 6, rtol=1e-5)
    flat = v.reshape(-1, 6)
    # Products of two coordinates have a variance below 1: 5 / sqrt(20,000) = 0.035.
    np.testing.assert_allclose(flat.T @ flat / len(flat), np.eye(6), atol=0.035)


def test_there_is_a_key_for_every_row():
    with pytest.raises(ValueError, match="3 keys for 4 rows"):
        noise.row_keys(jax.random.split(jax.random.key(0), 3), 4)

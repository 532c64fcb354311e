import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import noise, objectives


def gaussian_score(x, sigma):
    return -x / (1 + sigma[:, None] ** 2)


@pytest.mark.parametrize("weight", [None, objectives.edm(0.5)])
def test_over_levels_draws_sigma_and_weighs(weight):
    schedule, x = noise.lognormal(-1.2, 1.2), jax.random.normal(jax.random.key(3), (64, 2))
    losses = objectives.over_levels(objectives.noise_conditional, schedule, weight=weight)
    found, sigma = losses(gaussian_score, jax.random.key(0), x, with_sigma=True)
    key_sigma, key_noise = jax.random.split(jax.random.key(0))
    np.testing.assert_array_equal(sigma, schedule(noise.stratified(key_sigma, 64)))
    options = {} if weight is None else {"weight": weight}
    expected = objectives.noise_conditional(gaussian_score, key_noise, x, sigma, **options)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(losses(gaussian_score, jax.random.key(0), x), found)


def test_over_levels_multiplies_the_loss_of_other_objectives():
    schedule, x = noise.geometric(0.1, 1.0), jax.random.normal(jax.random.key(3), (16, 2))
    plain = objectives.over_levels(objectives.implicit, schedule)
    weighed = objectives.over_levels(objectives.implicit, schedule, weight=objectives.sigma_squared)
    found, sigma = weighed(gaussian_score, jax.random.key(0), x, with_sigma=True)
    np.testing.assert_allclose(found, sigma**2 * plain(gaussian_score, jax.random.key(0), x), rtol=1e-6)


def test_levels_that_are_given_are_met_equally_often():
    sigmas = jnp.array([5.0, 1.0, 0.1])
    drawn = noise.uniform_over(sigmas)(noise.stratified(jax.random.key(0), 300))
    # An offset on the edge of a third may fall to either side.
    assert all(99 <= int((drawn == sigma).sum()) <= 101 for sigma in sigmas)
    ends = noise.uniform_over(sigmas)(jnp.array([0.0, 1.0]))
    np.testing.assert_array_equal(ends, sigmas[jnp.array([0, 2])])

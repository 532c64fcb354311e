import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import inverse, mixtures, noise, samplers
from tests.draws import assert_gaussian
from tests.samplers import oracle

# Two correlated coordinates: given the first, y, the second is N(0.8 y, 0.6^2).
GAUSSIAN = mixtures.correlated([1.0], [[0.0, 0.0]], [[[1.0, 0.8], [0.8, 1.0]]])
MASK = jnp.array([True, False])
N = 2000
SIGMAS = noise.levels(noise.geometric(0.1, 5.0), 40)
LANGEVIN = samplers.langevin(lambda sigma: 0.3 * sigma**2)


@jax.jit
def complete(key, known):
    """N completions of the first coordinate by annealed Langevin dynamics."""
    sampler = samplers.repeat(inverse.replacement(LANGEVIN, known, MASK), 30)
    x = samplers.prior(noise.fold_in(key, 0), (N, 2), SIGMAS[0])
    score = functools.partial(mixtures.score, GAUSSIAN)
    x, _ = samplers.sample(noise.fold_in(key, 1), x, SIGMAS, score, sampler)
    return inverse.paste(x, known, MASK)


@pytest.mark.parametrize("y", [0.0, 1.5])
def test_completions_have_the_conditional_distribution(y):
    x = np.asarray(complete(jax.random.key(0), jnp.array([y, 99.0])), float)
    np.testing.assert_array_equal(x[:, 0], np.float32(y))
    # Annealing freezes the free coordinate near sigma = 0.15, where e / 0.36 times the steps left is
    # about 1: mean 0.8 y / (1 + sigma^2), variance 0.36 + 2.3 sigma^2, at sigma = 0.15 +- 0.1; a Langevin
    # bias of e / 2 = 1 % at most; and 4 standard errors of N draws.
    np.testing.assert_allclose(x[:, 1].mean(), 0.8 * y, atol=4 * 0.6 / math.sqrt(N) + 0.06 * y)
    np.testing.assert_allclose(x[:, 1].std(), 0.6, rtol=0.12)


def test_known_pixels_are_never_seen_where_the_mask_is_false():
    one = complete(jax.random.key(1), jnp.array([0.5, 99.0]))
    other = complete(jax.random.key(1), jnp.array([0.5, -3.0]))
    np.testing.assert_array_equal(one, other)


def test_the_sampler_sees_the_known_pixels_as_noisy_as_the_level():
    seen = []

    @samplers.memoryless
    def spy(key, x, score, sigma, sigma_next):
        seen.append(np.asarray(x))
        return x

    known, mask = jnp.full((3, 2, 1), 7.0), jnp.arange(6).reshape(3, 2, 1) < 4
    sampler = inverse.replacement(spy, known, mask)
    oracle.step(sampler, jax.random.key(0), jnp.full((5000, 3, 2, 1), -1.0), 0.5, None)
    inside, outside = seen[0][:, np.asarray(mask)], seen[0][:, ~np.asarray(mask)]
    np.testing.assert_array_equal(outside, -1.0)
    assert_gaussian(inside, 7.0, 0.5**2)


def test_every_example_may_have_known_pixels_of_its_own():
    known, mask = jnp.arange(8.0).reshape(4, 2), jnp.array([[True, False], [False, True]] * 2)
    pasted = inverse.paste(jnp.full((4, 2), -1.0), known, mask)
    np.testing.assert_array_equal(pasted, [[0, -1], [-1, 3], [4, -1], [-1, 7]])


def test_shapes_that_do_not_fit_are_refused():
    sampler = inverse.replacement(LANGEVIN, jnp.zeros(3), MASK)
    with pytest.raises(ValueError, match="fits neither"):
        oracle.step(sampler, jax.random.key(0), jnp.zeros((4, 2)), 1.0, None)
    with pytest.raises(ValueError, match="fits neither"):
        inverse.paste(jnp.zeros((4, 2)), jnp.zeros(3), jnp.zeros(3, bool))


def test_sample_i_depends_on_its_own_key_alone():
    sampler = samplers.repeat(inverse.replacement(LANGEVIN, jnp.array([1.0, 0.0]), MASK), 2)
    score = functools.partial(mixtures.score, GAUSSIAN)

    def run(keys):
        x = samplers.prior(noise.fold_in(keys, 0), (len(keys), 2), SIGMAS[0])
        return samplers.sample(noise.fold_in(keys, 1), x, SIGMAS, score, sampler)[0]

    keys = noise.row_keys(jax.random.key(0), 8)
    np.testing.assert_allclose(run(keys)[5:], run(keys[5:]), rtol=1e-5, atol=1e-6)

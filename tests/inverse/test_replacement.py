import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import inverse, mixtures, noise, samplers
from jaxscore.inverse import operators
from tests.draws import assert_gaussian
from tests.samplers import oracle

# Two correlated coordinates: given the first, y, the second is N(0.8 y, 0.6^2).
GAUSSIAN = mixtures.correlated([1.0], [[0.0, 0.0]], [[[1.0, 0.8], [0.8, 1.0]]])
MASK = jnp.array([True, False])
N = 2000
SIGMAS = noise.levels(noise.geometric(0.1, 5.0), 40)
mixtures_score = functools.partial(mixtures.score, GAUSSIAN)
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


# Projection and repetition ------------------------------------------------------------------------


def test_projection_onto_known_values_is_replacement():
    mask, known = jnp.array([True, False]), jnp.array([0.7, 99.0])
    x, key = jax.random.normal(jax.random.key(0), (5, 2)), jax.random.key(1)
    operator = operators.mask(np.asarray(mask))
    one, _ = oracle.step(inverse.replacement(LANGEVIN, known, mask), key, x, 0.5, mixtures_score)
    other, _ = oracle.step(inverse.projection(LANGEVIN, operator, known[:1]), key, x, 0.5, mixtures_score)
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_projection_makes_the_measured_part_noisy():
    seen = []

    @samplers.memoryless
    def spy(key, x, score, sigma, sigma_next):
        seen.append(np.asarray(x))
        return x

    a = np.array([[0.6, 0.8]])  # of norm 1, so that its noise has the level's standard deviation
    sampler = inverse.projection(spy, operators.matrix(a), jnp.array([2.0]))
    x = jnp.full((5000, 2), -1.0)
    oracle.step(sampler, jax.random.key(0), x, 0.5, None)
    assert_gaussian(seen[0] @ a.T, 2.0, 0.5**2)
    np.testing.assert_allclose(seen[0] @ [[0.8], [-0.6]], np.full((5000, 1), -0.2), atol=1e-5)
    half = inverse.projection(spy, operators.matrix(a), jnp.array([2.0]), weight=0.5)
    oracle.step(half, jax.random.key(0), x, 0.5, None)
    np.testing.assert_allclose(seen[1], (seen[0] + np.asarray(x)) / 2, atol=1e-5)
    with pytest.raises(ValueError, match=r"weight = 1\.5"):
        inverse.projection(spy, operators.matrix(a), jnp.array([2.0]), weight=1.5)


def test_repetition_brings_the_free_value_to_its_distribution():
    """RePaint: the more often each step is taken, the better the free values fit the known ones."""
    truth, sigmas = 0.8 * 1.5, noise.levels(noise.geometric(0.05, 5.0), 15)
    known = jnp.array([1.5, 0.0])

    def mean(times):
        sampler = inverse.resampled(inverse.replacement(samplers.ancestral(), known, MASK), times)
        draw = lambda: samplers.generate(jax.random.key(0), (N, 2), sigmas, mixtures_score, sampler)
        return float(jax.jit(draw)()[:, 1].mean())

    once, often = mean(1), mean(10)
    assert abs(often - truth) < 0.08, often  # 4 standard errors of N draws are 0.05
    assert abs(once - truth) > 2 * abs(often - truth), (once, often)


def test_repeated_steps_count_their_evaluations():
    sampler = inverse.resampled(samplers.ancestral(), 3)
    # Each of the 3 steps above 0 is taken 3 times, the last one once.
    assert samplers.evaluations(sampler, 4) == 10
    with pytest.raises(ValueError, match="times = 0"):
        inverse.resampled(samplers.ancestral(), 0)

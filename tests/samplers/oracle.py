"""A mixture whose density, score and moments are known at any sigma, to compare every sampler with."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscore import mixtures, noise, samplers, sharding

MIXTURE = mixtures.isotropic([0.7, 0.3], [[1.5, 1.0], [-1.5, -1.0]], 0.5)
SCORE = functools.partial(mixtures.score, MIXTURE)
LOG_DENSITY = functools.partial(mixtures.log_density, MIXTURE)
N = 6_000
LEVELS = noise.levels(noise.geometric(0.1, 6.0), 40)


class Run(NamedTuple):
    """What a sampler has done: x at the end, and x and the memory after every step."""

    x: jax.Array
    path: jax.Array
    memory: Any


def run(sampler, x, sigmas, score=SCORE, *, seed=1):
    """The sampler's steps from x along the levels."""
    both = lambda x, memory: (x, memory)
    loop = lambda key, x, sigmas: samplers.sample(key, x, sigmas, score, sampler, collect=both)
    end, (path, memory) = jax.jit(loop)(jax.random.key(seed), x, jnp.asarray(sigmas))
    return Run(end, path, memory)


def step(sampler, key, x, sigma, score, sigma_next=0.0):
    """x and the memory after one step of its own."""
    return sampler.step(key, x, sampler.init(x), score, jnp.asarray(sigma), jnp.asarray(sigma_next))


@functools.cache
def mean_and_covariance():
    """Those of the mixture without noise, as NumPy's arrays."""
    return tuple(map(np.asarray, mixtures.moments(MIXTURE)))


def assert_moments(x, sigma, *, bias=0.0):
    """Mean and covariance of x are those of p_sigma.

    To 4.5 standard errors, sqrt(C_ii / n) and, as if x were Gaussian, sqrt((C_ii C_jj + C_ij^2) / n); two
    modes have lighter tails, so that this is the larger. 4.5 in place of 4 because some 200 numbers are
    compared along a path. `bias` is what the sampler is known to be wrong by, relative to sqrt(C_ii C_jj).
    """
    x = np.asarray(x, float)
    mean, covariance = mean_and_covariance()
    covariance = covariance + float(sigma) ** 2 * np.eye(len(mean))
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    error = 4.5 * np.sqrt((scale**2 + covariance**2) / len(x)) + bias * scale
    assert (np.abs(np.cov(x.T) - covariance) <= error).all(), (np.cov(x.T), covariance)
    error = (4.5 / np.sqrt(len(x)) + bias) * np.sqrt(np.diag(covariance))
    assert (np.abs(x.mean(axis=0) - mean) <= error).all(), (x.mean(axis=0), mean)


def assert_follows_the_levels(sampler, *, stays, bias):
    """From p of the first level, x has the moments of every level in turn and ends with the weights.

    A sampler that stays has reached sigma after a step, any other sigma_next; noise is left on x at
    sigma_L or, after the step to 0, none.
    """
    x = mixtures.draw(jax.random.key(0), MIXTURE, N, sigma=LEVELS[0])
    last, path, _ = run(sampler, x, LEVELS)
    # The step to 0 denoises: it takes away the width of p_0 as well as noise, so it is left out here.
    reached = LEVELS[:-1] if stays else LEVELS[1:-1]
    for x, sigma in zip(path, reached, strict=False):
        assert_moments(x, sigma, bias=bias)
    # 4 standard errors, sqrt(.7 .3 / n) = 0.006, and 0.02 for modes that part before they are balanced.
    np.testing.assert_allclose(mixtures.mode_weights(MIXTURE, last), [0.7, 0.3], atol=0.044)


def separable(x, sigma):
    """The score of N(1, 0.8^2 I) at sigma, for any event shape."""
    return (1 - x) / (0.64 + jnp.reshape(sigma, (-1,) + (1,) * (x.ndim - 1)) ** 2)


def separable_log_density(x, sigma):
    """Its log density, not normalised."""
    squares = jnp.sum((x - 1) ** 2, axis=tuple(range(1, x.ndim)))
    return -squares / (2 * (0.64 + sigma**2))


REMEMBER = samplers.Sampler(init=lambda x: x, step=lambda key, x, memory, score, sigma, sigma_next: (x, x))
"""Does nothing; its memory is x as it was between two members of a chain."""

FEW = noise.levels(noise.geometric(0.1, 6.0), 5)


@functools.partial(jax.jit, static_argnums=(0, 3))
def few_steps(sampler, key, x, score=separable):
    """x and the memory after a few steps."""
    keep = lambda x, memory: memory
    x, memory = samplers.sample(key, x, FEW, score, sampler, collect=keep)
    return x, jax.tree.map(lambda a: a[-1], memory)


def on_eight_devices(sampler, key, x, score=separable):
    """What `few_steps` gives with the batch, and the keys of its rows, split over eight devices."""
    assert jax.device_count() == 8
    place = sharding.batched(sharding.mesh())
    keys = jax.device_put(noise.row_keys(key, len(x)), place)
    split, memory = few_steps(sampler, keys, jax.device_put(x, place), score)
    assert len(split.sharding.device_set) == 8
    return split, memory


def assert_rows_are_their_own(sampler, score=separable):
    """Row i is the same on eight devices, and in a part of the batch, given its key, and in another shape."""
    n, key = 32, jax.random.key(1)
    x = 6 * noise.normal(jax.random.key(0), (n, 2, 3, 2))
    whole = few_steps(sampler, key, x, score)
    assert np.isfinite(whole[0]).all()
    keys = noise.row_keys(key, 5, start=20)
    part, memory = few_steps(sampler, keys, x[20:25].reshape(5, 12), score)
    assert part.shape == (5, 12)
    some = jax.tree.map(lambda a: a[20:25] if a.ndim else a, whole)
    assert_close((part.reshape(5, 2, 3, 2), memory), some)
    assert_close(on_eight_devices(sampler, key, x, score), whole)


def assert_close(found, expected):
    """Two trees agree to what float32 allows, when sums are vectorised in another order."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)

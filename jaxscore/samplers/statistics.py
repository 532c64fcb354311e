"""Statistics of the steps of Langevin samplers: norm of the score, signal-to-noise ratio, acceptance.

The memory of every Langevin sampler is a `Statistics`. It is made of numbers that the step computes anyway,
so it costs no evaluation of the score, and the compiler removes it if nobody collects it. `sample` returns
what `collect` returns: here the mean over the batch, level by level.

>>> import functools, jax
>>> from jaxscore import mixtures, noise
>>> from jaxscore.samplers.base import repeat, sample
>>> from jaxscore.samplers.langevin import annealed, langevin
>>> score = functools.partial(mixtures.score, mixtures.ring())
>>> dynamics = per_level(repeat(langevin(annealed(0.001, 0.1)), 5))
>>> x = mixtures.draw(jax.random.key(0), mixtures.ring(), 100, sigma=10.0)
>>> sigmas = noise.levels(noise.geometric(0.1, 10.0), 12)
>>> mean = lambda x, memory: jax.tree.map(lambda figure: figure.mean(), memory)
>>> x, by_level = sample(jax.random.key(1), x, sigmas, score, dynamics, collect=mean)
>>> by_level.score_norm.shape
(12,)
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxscore.samplers.base import Batch, Sampler, Scalar
from jaxscore.types import Array


class Statistics(NamedTuple):
    """Number of steps since init, and means over these steps for each example; zeros before the first step.

    A score_norm far above 1 means that x is far from every density p_sigma: the step diverges.
    """

    steps: Int[Array, ""]
    """Number of steps since init."""
    score_norm: Float[Array, "b"]
    """`|s| sigma / sqrt(D)`, with D numbers in an example. It is 1 if x is pure noise of level sigma, and
    less if the data have a width of their own."""
    signal_to_noise: Float[Array, "b"]
    """`|e s| / |sqrt(2 e) z|`, length of the drift over length of the noise."""
    acceptance: Float[Array, "b"]
    """Probability that the proposal was accepted; 1 without a Metropolis test."""


def no_statistics(x: Array) -> Statistics:
    """The memory before the first step of x[b, ...]."""
    nothing = jnp.zeros(x.shape[:1], jnp.float32)
    return Statistics(jnp.zeros((), jnp.int32), nothing, nothing, nothing)


def count_step(
    memory: Statistics,
    s: Batch,
    z: Batch,
    e: Float[Array, "b"],
    sigma: Scalar,
    acceptance: Array | float = 1.0,
) -> Statistics:
    """The statistics after one more step x + e s + sqrt(2 e) z at sigma."""
    steps = memory.steps + 1
    size = norms(s)
    now = (
        size * sigma / math.prod(s.shape[1:]) ** 0.5,
        jnp.sqrt(e / 2) * size / norms(z),
        jnp.asarray(acceptance),
    )
    means = [mean + (value - mean) / steps for mean, value in zip(memory[1:], now, strict=True)]
    return Statistics(steps, *(mean.astype(jnp.float32) for mean in means))


def norms(x: Batch) -> Float[Array, "b"]:
    """Norm of each row, over all axes but the first."""
    return jnp.sqrt(jnp.sum(x.astype(jnp.float32) ** 2, axis=tuple(range(1, x.ndim))))


def per_level(sampler: Sampler) -> Sampler:
    """The sampler with its memory reset at every level, so that `collect` sees each level by itself.

    Without it the statistics are means since the first level. With `repeat(..., T)` they are means over the T
    steps of a level. Use it for samplers whose memory is only reported. A multistep solver needs its memory
    and would be another sampler.
    """

    def step(key, x, memory, score, sigma, sigma_next):
        del memory  # it belongs to the level before
        return sampler.step(key, x, sampler.init(x), score, sigma, sigma_next)

    return Sampler(sampler.init, step, sampler.order)

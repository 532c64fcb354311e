"""Statistics: what the Langevin samplers remember of their steps, for whoever asks.

The memory of every Langevin sampler is a `Statistics`, made of numbers that the step has computed anyway:
no evaluation of the score is spent on it, and where nobody collects it the compiler leaves it out.
`sample` keeps what `collect` asks for, here the mean of every figure over the batch, level by level:

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
    """The number of steps since init, and means over them, per example; zeros before the first.

    score_norm       |s| sigma / sqrt(D), D numbers in an example: 1 where x is nothing but noise of
                     level sigma, less where the data have a width of their own
    signal_to_noise  |e s| / |sqrt(2 e) z|, how far the drift moves x over how far the noise does
    acceptance       the probability that the proposal was accepted; 1 without a Metropolis test

    A score_norm far above 1 is that of x driven away from every density p_sigma: a step that diverges.
    """

    steps: Int[Array, ""]
    score_norm: Float[Array, "b"]
    signal_to_noise: Float[Array, "b"]
    acceptance: Float[Array, "b"]


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
    """The figures with those of the step x + e s + sqrt(2 e) z at sigma taken in."""
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
    """|x|, over everything but the first axis."""
    return jnp.sqrt(jnp.sum(x.astype(jnp.float32) ** 2, axis=tuple(range(1, x.ndim))))


def per_level(sampler: Sampler) -> Sampler:
    """The sampler with its memory begun afresh at every level.

    So that `collect` sees the figures of each level by itself, and not those since the first: of all
    T steps at it when the sampler is `repeat(..., T)`. For samplers whose memory is only reported; one
    that steers by it, as a multistep solver does, is another sampler without it.
    """

    def step(key, x, memory, score, sigma, sigma_next):
        del memory  # of the level before
        return sampler.step(key, x, sampler.init(x), score, sigma, sigma_next)

    return Sampler(sampler.init, step)

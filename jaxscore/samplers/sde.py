"""Solvers of the reverse-time SDE: every step takes noise out and puts some back."""

import jax.numpy as jnp

from jaxscore import noise
from jaxscore.samplers.base import Sampler, at, memoryless


def ancestral() -> Sampler:
    """x <- N(x + (sigma^2 - sigma_next^2) s, sigma_next^2 (sigma^2 - sigma_next^2) / sigma^2 I).

    The posterior of the Markov chain x_sigma_next -> x_sigma, with x0 replaced by its mean: DDPM's
    sampler in these coordinates (Ho et al. 2020, equation 7; Song et al. 2021, appendix F). First
    order, one evaluation a step; the step to sigma = 0 is Tweedie's denoising.
    """

    def move(key, x, score, sigma, sigma_next):
        removed = sigma**2 - sigma_next**2
        z = noise.normal(key, x.shape, x.dtype)
        return x + removed * at(score, x, sigma) + sigma_next * jnp.sqrt(removed) / sigma * z

    return memoryless(move)


def reverse_diffusion() -> Sampler:
    """x <- x + (sigma^2 - sigma_next^2) s(x, sigma) + sqrt(sigma^2 - sigma_next^2) z.

    The reverse-time SDE discretised as the forward one is: the predictor of Song et al. 2021
    (algorithm 2, appendix E). As much noise goes in as the forward step from sigma_next to sigma would
    add, more than `ancestral()` by the factor sigma / sigma_next in standard deviation: on geometric
    levels x at sigma_next has noise of sigma, which a corrector puts right. First order, one evaluation
    a step; the step to sigma = 0 adds no noise: it is Tweedie's denoising.
    """

    def move(key, x, score, sigma, sigma_next):
        removed = sigma**2 - sigma_next**2
        added = jnp.where(sigma_next > 0, jnp.sqrt(removed), 0.0)
        z = noise.normal(key, x.shape, x.dtype)
        return x + removed * at(score, x, sigma) + added * z

    return memoryless(move)

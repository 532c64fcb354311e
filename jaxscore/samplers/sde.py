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

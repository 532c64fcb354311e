"""Solvers of the reverse-time SDE: every step removes noise and adds some."""

import jax.numpy as jnp

from jaxscore import noise
from jaxscore.samplers.base import Sampler, at, memoryless


def ancestral() -> Sampler:
    """DDPM's sampler in these coordinates: first order, one evaluation per step.

        x <- N(x + (sigma^2 - sigma_next^2) s, sigma_next^2 (sigma^2 - sigma_next^2) / sigma^2 I)

    This is the posterior of the Markov chain x_sigma_next -> x_sigma, with x0 replaced by its mean. The step
    to sigma = 0 is Tweedie's denoising.

    Source: Ho et al. 2020, equation 7; Song et al. 2021, appendix F.
    """

    def move(key, x, score, sigma, sigma_next):
        removed = sigma**2 - sigma_next**2
        z = noise.normal(key, x.shape, x.dtype)
        return x + removed * at(score, x, sigma) + sigma_next * jnp.sqrt(removed) / sigma * z

    return memoryless(move)


def reverse_diffusion() -> Sampler:
    """The reverse-time SDE in the discretisation of the forward SDE: first order, one evaluation per step.

        x <- x + (sigma^2 - sigma_next^2) s(x, sigma) + sqrt(sigma^2 - sigma_next^2) z

    The step adds the noise of the forward step from sigma_next to sigma. Its standard deviation is larger
    than that of `ancestral()` by the factor sigma / sigma_next. In the steady state on geometric levels, x at
    sigma_next has noise of level sigma; a corrector puts this right. The step to sigma = 0 adds no noise and
    is Tweedie's denoising.

    Source: the predictor of Song et al. 2021, algorithm 2 and appendix E.
    """

    def move(key, x, score, sigma, sigma_next):
        removed = sigma**2 - sigma_next**2
        added = jnp.where(sigma_next > 0, jnp.sqrt(removed), 0.0)
        z = noise.normal(key, x.shape, x.dtype)
        return x + removed * at(score, x, sigma) + added * z

    return memoryless(move)

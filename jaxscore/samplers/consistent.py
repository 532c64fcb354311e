"""Consistent annealed sampling: Langevin's drift, with the noise that makes the next level exact.

>>> import functools, jax
>>> from jaxscore import mixtures, noise
>>> from jaxscore.samplers.base import sample
>>> score = functools.partial(mixtures.score, mixtures.ring())
>>> x = mixtures.draw(jax.random.key(0), mixtures.ring(), 100, sigma=10.0)
>>> sigmas = noise.levels(noise.geometric(0.1, 10.0), 20)
>>> x, _ = sample(jax.random.key(1), x, sigmas, score, consistent(0.3))
>>> x.shape
(100, 2)
"""

import jax.numpy as jnp

from jaxscore import noise
from jaxscore.samplers.base import Sampler, at, memoryless


def consistent(eta: float) -> Sampler:
    """Consistent annealed sampling; one evaluation per step.

        x <- x + h sigma^2 s(x, sigma) + sqrt(sigma_next^2 - (1 - h)^2 sigma^2) z
        h = max(eta, 1 - sigma_next / sigma)

    The drift leaves (1 - h) sigma of the noise of level sigma, and the added noise brings it to sigma_next
    exactly. Annealed Langevin dynamics lags behind its levels instead. The step is exact for data at one
    point. For other data each step loses h^2 Var[x0 | x] of the variance, which vanishes with eta.

    The paper's eta is epsilon / sigma_L^2. On geometric levels of ratio gamma = sigma_next / sigma, its noise
    is sigma_next sqrt(1 - (1 - eta)^2 / gamma^2). If eta is too small to reach sigma_next, h is larger and
    the step adds no noise. Special cases are:

        h = 1 - sigma_next / sigma          `euler()`, as for eta = 0
        h = 1 - (sigma_next / sigma)^2      `ancestral()`
        h = 1                               full denoising, then noise of level sigma_next
        sigma_next = 0                      Tweedie's denoising

    The step goes to sigma_next, so it cannot be repeated at a level. Use more levels instead.

    Raises:
        ValueError: unless 0 <= eta <= 1.

    Source: Jolicoeur-Martineau et al. 2021, algorithm 2.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta = {eta} must lie between 0 and 1")

    def move(key, x, score, sigma, sigma_next):
        left = jnp.minimum((1 - eta) * sigma, sigma_next)
        added = jnp.sqrt((sigma_next - left) * (sigma_next + left))  # exactly 0 if left = sigma_next
        z = noise.normal(key, x.shape, x.dtype)
        return x + (sigma - left) * sigma * at(score, x, sigma) + added * z

    return memoryless(move)

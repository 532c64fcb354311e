"""Consistent annealed sampling: Langevin's drift, and just the noise that the next level wants.

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
    """x <- x + h sigma^2 s(x, sigma) + sqrt(sigma_next^2 - (1 - h)^2 sigma^2) z.

    h = max(eta, 1 - sigma_next / sigma). Jolicoeur-Martineau et al. 2021, algorithm 2: their eta is
    epsilon / sigma_L^2, and on geometric levels of ratio gamma = sigma_next / sigma the noise is
    sigma_next sqrt(1 - (1 - eta)^2 / gamma^2). The drift leaves (1 - h) sigma of the noise of level
    sigma, so that the noise added brings it to sigma_next, exactly; where annealed Langevin dynamics
    lags behind its levels. Exact for a point mass; data with a width lose h^2 Var[x0 | x] of variance a
    step, which vanishes with eta.

    A step too small to reach sigma_next is lengthened, h > eta, until it needs no noise. Then it is
    `euler()`, as at eta = 0; with h = 1 - (sigma_next / sigma)^2 it is `ancestral()`; with h = 1 it
    denoises all the way and adds noise of sigma_next, and so it does on the step to sigma_next = 0,
    which is Tweedie's denoising. It goes to sigma_next, so it cannot be repeated: more levels do what
    more steps would. One evaluation a step. Raises ValueError unless 0 <= eta <= 1.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta = {eta} must lie between 0 and 1")

    def move(key, x, score, sigma, sigma_next):
        left = jnp.minimum((1 - eta) * sigma, sigma_next)
        added = jnp.sqrt((sigma_next - left) * (sigma_next + left))  # exactly 0 where they are equal
        z = noise.normal(key, x.shape, x.dtype)
        return x + (sigma - left) * sigma * at(score, x, sigma) + added * z

    return memoryless(move)

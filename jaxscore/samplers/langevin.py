"""Langevin dynamics: samplers that stay at a noise level and let its density take hold."""

from collections.abc import Callable

import jax.numpy as jnp

from jaxscore import noise
from jaxscore.samplers.base import Sampler, at, memoryless
from jaxscore.types import Array


def langevin(step_size: float | Callable[[Array], Array]) -> Sampler:
    """x <- x + e s(x, sigma) + sqrt(2 e) z, z ~ N(0, I), e = step_size or step_size(sigma).

    One unadjusted Langevin step at sigma; x stays there. Beware of the literature's two
    conventions: Song & Ermon 2019 write alpha / 2 and sqrt(alpha), so their alpha is 2 e, although
    the step they quote, 2e-5, is the e of this update in their code. Raises ValueError if a number
    step_size is not positive.
    """
    if not callable(step_size) and step_size <= 0:
        raise ValueError(f"step_size = {step_size} must be positive")

    def move(key, x, score, sigma, sigma_next):
        del sigma_next  # a Langevin step stays at sigma
        e = step_size(sigma) if callable(step_size) else step_size
        z = noise.normal(key, x.shape, x.dtype)
        return x + e * at(score, x, sigma) + jnp.sqrt(2 * e) * z

    return memoryless(move)


def annealed(epsilon: float, sigma_min: float) -> Callable[[Array], Array]:
    """The step size e(sigma) = epsilon (sigma / sigma_min)^2 of annealed Langevin dynamics.

    The lecture's sampler over sigma_1 > ... > sigma_L, T steps at each (Song & Ermon 2019,
    algorithm 1), is then `repeat(langevin(annealed(epsilon, sigma_L)), T)`. Raises ValueError unless
    both are positive.
    """
    if epsilon <= 0 or sigma_min <= 0:
        raise ValueError(f"epsilon = {epsilon} and sigma_min = {sigma_min} must be positive")
    return lambda sigma: epsilon * (sigma / sigma_min) ** 2

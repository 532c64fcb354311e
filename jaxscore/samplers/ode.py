"""Solvers of the probability-flow ODE, dx / dsigma = -sigma s(x, sigma).

The equation is Song et al. 2021, equation 13; in these coordinates it is Karras et al. 2022, equation 1, with
sigma(t) = t. The solvers are deterministic: the starting point is the only noise.
"""

import jax

from jaxscore.samplers.base import Batch, Sampler, Scalar, at, memoryless
from jaxscore.types import ScoreFn


def slope(score: ScoreFn, x: Batch, sigma: Scalar) -> Batch:
    """dx / dsigma = -sigma s(x, sigma) of the probability flow."""
    return -sigma * at(score, x, sigma)


def euler() -> Sampler:
    """Euler's method: first order, one evaluation per step.

        x <- x + (sigma_next - sigma) dx/dsigma

    In these coordinates it is DDIM (Song, Meng & Ermon 2021, equation 13). The step to sigma = 0 is Tweedie's
    denoising.
    """

    def move(key, x, score, sigma, sigma_next):
        del key  # deterministic
        return x + (sigma_next - sigma) * slope(score, x, sigma)

    return memoryless(move)


def heun() -> Sampler:
    """Heun's method: Euler's step, corrected with the mean of the slopes at both ends; second order.

    A step costs two evaluations. The step to sigma = 0 is Euler's and costs one, so n levels cost 2 n - 1.

    Source: Karras et al. 2022, algorithm 1.
    """

    def move(key, x, score, sigma, sigma_next):
        del key  # deterministic
        h = sigma_next - sigma
        first = slope(score, x, sigma)
        there = x + h * first

        def correct(there):
            return x + h / 2 * (first + slope(score, there, sigma_next))

        return jax.lax.cond(sigma_next > 0, correct, lambda there: there, there)

    return memoryless(move)

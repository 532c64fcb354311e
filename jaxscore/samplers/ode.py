"""Solvers of the probability-flow ODE, dx / dsigma = -sigma s(x, sigma).

The equation is Song et al. 2021, equation 13; in these coordinates it is Karras et al. 2022, equation 1, with
sigma(t) = t. The solvers are deterministic: the starting point is the only noise.
"""

import jax
import jax.numpy as jnp

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


def dpm_solver_2() -> Sampler:
    """DPM-Solver-2, the midpoint method in ln sigma: second order, two evaluations per step.

        m = sqrt(sigma sigma_next)
        x <- x + (sigma_next - sigma) e(y, m),    y = x + (m - sigma) e(x, sigma)

    e = -sigma s is the slope of the probability flow. The step to sigma = 0 is Tweedie's denoising, with one
    evaluation.

    Source: Lu et al. 2022a, "DPM-Solver", algorithm 1, in the coordinates of Karras et al. 2022.
    """
    return _through_the_middle(
        lambda x, y, score, m, sigma, sigma_next: x + (sigma_next - sigma) * slope(score, y, m)
    )


def dpm_solver_pp_2s() -> Sampler:
    """DPM-Solver++(2S), the same with the denoiser: second order, two evaluations per step.

        m = sqrt(sigma sigma_next),    k = sigma_next / sigma
        x <- k x + (1 - k) D(y, m),    y = x + (m - sigma) e(x, sigma)

    D = x + sigma^2 s is the denoiser. A step is exact if D does not change along it.

    Source: Lu et al. 2022b, "DPM-Solver++", algorithm 1, with r = 1/2.
    """

    def end(x, y, score, m, sigma, sigma_next):
        k = sigma_next / sigma
        return k * x + (1 - k) * (y + m**2 * at(score, y, m))

    return _through_the_middle(end)


def _through_the_middle(end) -> Sampler:
    """Returns the solver x <- end(x, y, score, m, sigma, sigma_next) with y at m = sqrt(sigma sigma_next)."""

    def move(key, x, score, sigma, sigma_next):
        del key  # deterministic
        first = slope(score, x, sigma)

        def inner(x):
            m = jnp.sqrt(sigma * sigma_next)
            return end(x, x + (m - sigma) * first, score, m, sigma, sigma_next)

        return jax.lax.cond(sigma_next > 0, inner, lambda x: x - sigma * first, x)

    return memoryless(move)

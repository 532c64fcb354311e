"""Solvers of the reverse-time SDE: every step removes noise and adds some."""

import math

import jax
import jax.numpy as jnp

from jaxscore import noise
from jaxscore.samplers.base import Sampler, Scalar, at, memoryless, sample
from jaxscore.samplers.ode import euler
from jaxscore.types import Array


def ancestral(sampler: Sampler | None = None, *, eta: float = 1.0) -> Sampler:
    """Returns the sampler that goes below sigma_next by the given one, and adds noise up to sigma_next.

        x at sigma -> x at down, by the sampler;    x <- x + up z
        up = eta sigma_next sqrt(1 - sigma_next^2 / sigma^2),    down^2 = sigma_next^2 - up^2

    By default the sampler is `euler()`, and the step is DDPM's:

        x <- N(x + (sigma^2 - sigma_next^2) s, sigma_next^2 (sigma^2 - sigma_next^2) / sigma^2 I)

    which is the posterior of the Markov chain x_sigma_next -> x_sigma with x0 replaced by its mean. With
    eta = 0 there is no noise. The step to sigma = 0 adds none. The distribution is as right as the sampler:
    an exact one would take p_sigma to p_down, and the noise takes that to p_sigma_next. Give it a solver
    without memory: what a multistep solver remembers is of x before the noise. This holds for `restart`, too.

    Args:
        sampler: a solver of the probability flow, such as `dpm_solver_2()` or `dpm_solver_pp_2s()`.
        eta: the noise, in units of that of DDPM.

    Source: Ho et al. 2020, equation 7; Song, Meng & Ermon 2021, equation 16. Raises ValueError unless eta is
    in 0..1.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta = {eta} must be in 0..1")
    sampler = euler() if sampler is None else sampler

    def step(key, x, memory, score, sigma, sigma_next):
        down, up = _split(sigma, sigma_next, eta)
        x, memory = sampler.step(noise.fold_in(key, 1), x, memory, score, sigma, down)
        return x + up * noise.normal(key, x.shape, x.dtype), memory

    return Sampler(sampler.init, step, sampler.order)


def _split(sigma: Scalar, sigma_next: Scalar, eta: float) -> tuple[Array, Array]:
    """Returns `down` and `up` of `ancestral`, whose squares sum to sigma_next^2."""
    noisy = eta**2 * (1 - (sigma_next / sigma) ** 2)
    return sigma_next * jnp.sqrt(1 - noisy), sigma_next * jnp.sqrt(noisy)


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


def euler_maruyama(strength: float = 1.0) -> Sampler:
    """The reverse-time SDE with any amount of noise: first order, one evaluation per step.

        dx = -(1 + a^2) sigma s dsigma + a sqrt(2 sigma) dw,    a = strength
        x <- x + (1 + a^2) sigma (sigma - sigma_next) s + a sqrt(2 sigma (sigma - sigma_next)) z

    Solved exactly, it has the distribution p_sigma at every level for any strength: 0 is the probability
    flow, and 1 is the reverse of the process that adds noise. The step to sigma = 0 is Tweedie's denoising.

    Source: Karras et al. 2022, equation 6; Song et al. 2021, appendix D. Raises ValueError if strength < 0.
    """
    if not 0 <= strength < math.inf:
        raise ValueError(f"strength = {strength} must be at least 0")

    def move(key, x, score, sigma, sigma_next):
        s, removed = at(score, x, sigma), sigma * (sigma - sigma_next)
        z = noise.normal(key, x.shape, x.dtype)
        there = x + (1 + strength**2) * removed * s + strength * jnp.sqrt(2 * removed) * z
        return jnp.where(sigma_next > 0, there, x + sigma**2 * s)

    return memoryless(move)


def dpm_solver_pp_sde(*, eta: float = 1.0) -> Sampler:
    """DPM-Solver++(2S) of the reverse-time SDE, with noise at the middle, too: two evaluations per step.

        y <- `ancestral` step of DDIM from x at sigma to m = sqrt(sigma sigma_next)
        x <- the same from x at sigma to sigma_next, with D(y, m) instead of D(x, sigma)

    The step to sigma = 0 is Tweedie's denoising, with one evaluation.

    Source: Lu et al. 2022b, "DPM-Solver++", section 5, with both stages of its singlestep form; the code of
    k-diffusion has it as dpmpp_sde. Raises ValueError unless eta is in 0..1.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta = {eta} must be in 0..1")

    def move(key, x, score, sigma, sigma_next):
        def ddim(number, denoised, target):
            down, up = _split(sigma, target, eta)
            z = noise.normal(noise.fold_in(key, number), x.shape, x.dtype)
            return down / sigma * x + (1 - down / sigma) * denoised + up * z

        denoised = x + sigma**2 * at(score, x, sigma)

        def through_the_middle(denoised):
            m = jnp.sqrt(sigma * sigma_next)
            y = ddim(0, denoised, m)
            return ddim(1, y + m**2 * at(score, y, m), sigma_next)

        return jax.lax.cond(sigma_next > 0, through_the_middle, lambda denoised: denoised, denoised)

    return memoryless(move)


def restart(
    sampler: Sampler, *, sigma_min: float, sigma_max: float, steps: int, times: int = 1, rho: float = 7.0
) -> Sampler:
    """Returns the sampler that goes up again after it has reached sigma_min, and down once more, some times.

        x <- x + sqrt(sigma_max^2 - sigma_next^2) z, then `steps` steps of the sampler to sigma_next

    This happens after the step that goes from above sigma_min to sigma_next <= sigma_min. The levels between
    are those of `noise.karras`. The noise of the way up removes errors of the first way down. Several
    intervals are restarts of restarts. A step to sigma = 0 is not followed by a restart.

    Args:
        sampler: a solver of the probability flow.
        sigma_min, sigma_max: the interval.
        steps: of each further way down.
        times: how often it goes up; K of the paper.
        rho: of the levels.

    Source: Xu et al. 2023, "Restart sampling", algorithm 1. Raises ValueError for an empty interval, and
    unless both counts are positive.
    """
    if not 0 < sigma_min < sigma_max < math.inf or not 0 < rho < math.inf:
        raise ValueError(
            f"need 0 < sigma_min < sigma_max and rho > 0, not {sigma_min}, {sigma_max} and {rho}"
        )
    if steps < 1 or times < 1:
        raise ValueError(f"need steps >= 1 and times >= 1, not {steps} and {times}")

    def again(key, x, score, low):
        u = jnp.linspace(0.0, 1.0, steps + 1, dtype=x.dtype)
        sigmas = ((1 - u) * sigma_max ** (1 / rho) + u * low ** (1 / rho)) ** rho
        z = noise.normal(noise.fold_in(key, 0), x.shape, x.dtype)
        x = x + jnp.sqrt(sigma_max**2 - low**2) * z
        return sample(noise.fold_in(key, 1), x, sigmas.at[-1].set(low), score, sampler)[0]

    def step(key, x, memory, score, sigma, sigma_next):
        x, memory = sampler.step(noise.fold_in(key, 0), x, memory, score, sigma, sigma_next)

        def ways(x):
            each = lambda number, x: again(noise.fold_in(key, 1 + number), x, score, sigma_next)
            return jax.lax.fori_loop(0, times, each, x)

        reached = (sigma_next > 0) & (sigma_next <= sigma_min) & (sigma > sigma_min)
        return jax.lax.cond(reached, ways, lambda x: x, x), memory

    return Sampler(sampler.init, step, sampler.order)

"""Approximate posteriors that guide the score: PiGDM, DDNM, DiffPIR, and the sampler of DPS.

All start from the denoised mean D = x + sigma^2 s(x, sigma) and its residual y - A D. None is exact, because
the distribution of x0 given x is not the one that they assume.
"""

import math

import jax
import jax.numpy as jnp

from jaxscore import noise as noises
from jaxscore.inverse.measured import (
    Batch,
    Measurement,
    denoised,
    require,
    residual_of,
    rows,
    spread,
    whitened,
)
from jaxscore.inverse.operators.linear import Operator, solve
from jaxscore.samplers.base import Sampler
from jaxscore.types import Array, ScoreFn, right, shaped


def pigdm(
    score: ScoreFn, operator: Operator, y: Measurement, *, noise: float | Array, sigma_data: float | Array
) -> ScoreFn:
    """s + (dD/dx)' A' (r^2 A A' + noise^2 I)^-1 (y - A D): pseudoinverse-guided diffusion.

        r^2 = sigma^2 sigma_data^2 / (sigma^2 + sigma_data^2)

    It is the score of the posterior if x0 given x is N(D, r^2 I), which holds for data N(m, sigma_data^2 I).
    The result is a score for any sampler; each evaluation has one vector-Jacobian product.

    Args:
        score: of the prior.
        operator: a linear one.
        y: the measurement, [*measurement] or [b, *measurement].
        noise: its standard deviation.
        sigma_data: standard deviation of the data, one number for all coordinates.

    Raises ValueError if the operator is not linear, if noise < 0, if noise = 0 and the operator has no
    `solve`, unless sigma_data > 0, and from the score if y has not the shape of A x. Inside jit, traced
    numbers are not checked.

    Source: Song et al. 2023, "Pseudoinverse-guided diffusion models", equations 7 and 8.
    """
    require(operator, noise, "pigdm")
    score = shaped(score)

    def posterior(x: Batch, sigma: Array) -> Batch:
        at = denoised(score, x, sigma)
        residual = residual_of(operator, y, at.mean)
        pulled = at.pull(operator.adjoint(whitened(operator, spread(sigma, sigma_data), noise, residual)))
        return at.score + pulled

    return shaped(posterior)


def ddnm(score: ScoreFn, operator: Operator, y: Measurement) -> ScoreFn:
    """s + A' (A A')^-1 (y - A D) / sigma^2: the denoised mean is projected onto {x0: A x0 = y}.

    The null space keeps the values of D (denoising diffusion null-space model). The measurement must have no
    noise, or its noise is reproduced; `diffpir` takes noise into account. With `euler()` the sampler is DDIM
    as in the paper, and any other sampler will do.

    Raises ValueError if the operator is not linear or has no `solve`, and from the score if y has not the
    shape of A x.

    Source: Wang et al. 2023, equation 13.
    """
    require(operator, 0.0, "ddnm")
    return _proximal(score, operator, y, lambda sigma: jnp.zeros_like(sigma))


def diffpir(
    score: ScoreFn, operator: Operator, y: Measurement, *, noise: float | Array, weight: float = 1.0
) -> ScoreFn:
    """s + A' (A A' + c I)^-1 (y - A D) / sigma^2, c = weight noise^2 / sigma^2: a proximal step from D.

    The corrected mean minimises |y - A x0|^2 / noise^2 + weight |x0 - D|^2 / sigma^2. The paper's sampler is
    Euler's step with noise: its zeta = 0 is `euler()`, and `ancestral()` is close to its zeta = 1.

    Args:
        score: of the prior.
        operator: a linear one.
        y: the measurement, [*measurement] or [b, *measurement].
        noise: its standard deviation.
        weight: lambda of the paper, which takes 1 to 25; larger values trust the prior more.

    Raises ValueError unless weight > 0, and as `pigdm` does.

    Source: Zhu et al. 2023, equations 12 and 13.
    """
    require(operator, noise, "diffpir")
    if not 0 < weight < math.inf:
        raise ValueError(f"weight = {weight} must be positive")
    return _proximal(score, operator, y, lambda sigma: weight * (noise / sigma) ** 2)


def _proximal(score: ScoreFn, operator: Operator, y: Measurement, ridge) -> ScoreFn:
    """The score whose denoised mean is D + A' (A A' + ridge(sigma) I)^-1 (y - A D)."""
    score = shaped(score)

    def posterior(x: Batch, sigma: Array) -> Batch:
        s, variance = score(x, sigma), right(sigma, x) ** 2
        residual = residual_of(operator, y, x + variance * s)
        return s + operator.adjoint(solve(operator, ridge(sigma), residual)) / variance

    return shaped(posterior)


def dps(sampler: Sampler, operator: Operator, y: Measurement, *, scale: float = 1.0) -> Sampler:
    """Returns the sampler with a step towards the measurement after each step: diffusion posterior sampling.

        x <- step(x) - scale (1 + sigma^2)^(1/2) (1 + sigma_next^2)^(1/2) grad_x |y - A D(x, sigma)|

    This is the paper's normalised step, in the coordinates of this library: it does not depend on the noise
    of the measurement, nor on the number of steps, so `scale` has to be chosen for each. Each row has its own
    norm. The operator need not be linear. It is a sampler and no score, because the length of its step does
    not come from a density; the score of the paper's equation 16 is

        guidance.by(score, lambda x, sigma: -sum((y - A(denoise(score, x, sigma)))^2) / (2 noise^2))

    Args:
        sampler: takes the steps of the prior; `ancestral()` in the paper.
        operator: any operator.
        y: the measurement, [*measurement] or [b, *measurement].
        scale: step size of the paper's code, which takes 0.3 to 1 for images in -1..1.

    Raises ValueError unless scale > 0, and from the step if y has not the shape of A x.

    Source: Chung et al. 2023, algorithm 1.
    """
    if not 0 < scale < math.inf:
        raise ValueError(f"scale = {scale} must be positive")

    def step(key, x, memory, score, sigma, sigma_next):
        def distance(x: Array) -> Array:
            levels = jnp.full(len(x), sigma, x.dtype)
            residual = residual_of(operator, y, x + sigma**2 * score(x, levels))
            squared = jnp.sum(residual.reshape(len(x), -1) ** 2, axis=1)
            return jnp.sum(jnp.sqrt(squared + 1e-12))  # smooth where nothing is left

        towards = jax.grad(distance)(x)
        length = scale * jnp.sqrt((1 + sigma**2) * (1 + sigma_next**2))
        x, memory = sampler.step(key, x, memory, score, sigma, sigma_next)
        return x - length * towards, memory

    return Sampler(sampler.init, step, sampler.order)


def decoupled(
    operator: Operator, y: Measurement, *, noise: float | Array, sigma_data: float | Array, steps: int = 1
) -> Sampler:
    """Returns the sampler of decoupled annealing: x0 from x, x0 given y, and x at sigma_next anew.

        u <- the end of the probability flow from x, by `steps` steps of Euler's method
        x0 ~ N(x0; u, r^2 I) N(y; A x0, noise^2 I), normalised;    x <- x0 + sigma_next z

    r^2 is that of `pigdm`; the paper has sigma^2. One step of Euler's method makes u the denoised mean; the
    paper takes about five. It draws x0 by Langevin dynamics. Here the draw is exact, so the operator must be
    linear: x0 = v + A' (A A' + (noise / r)^2 I)^-1 (y + noise e - A v), v ~ N(u, r^2 I), e ~ N(0, I).
    The method is a sampler and no score: x at sigma_next does not continue x at sigma.

    Args:
        operator: a linear one.
        y: the measurement, [*measurement] or [b, *measurement].
        noise: its standard deviation.
        sigma_data: standard deviation of the data, one number for all coordinates.
        steps: evaluations of the score for u, on levels of Karras et al. 2022 down to sigma / 100.

    Raises ValueError if steps < 1, and as `pigdm` does.

    Source: Zhang et al. 2024 (DAPS), algorithm 1.
    """
    require(operator, noise, "decoupled")
    if steps < 1:
        raise ValueError(f"steps = {steps} must be at least 1")
    fractions = noises.levels(noises.karras(0.01, 1.0), steps) if steps > 1 else jnp.array([1.0, 0.0])

    def step(key, x, memory, score, sigma, sigma_next):
        u = x
        for first, second in zip(fractions[:-1] * sigma, fractions[1:] * sigma, strict=True):
            u = u + first * (first - second) * score(u, jnp.full(len(u), first, u.dtype))
        variance = spread(sigma, sigma_data)
        v = u + jnp.sqrt(variance) * noises.normal(noises.fold_in(key, 0), x.shape, x.dtype)
        predicted = operator.apply(v)
        drawn = rows(y, predicted) + noise * noises.normal(noises.fold_in(key, 1), predicted.shape, x.dtype)
        v = v + operator.adjoint(solve(operator, noise**2 / variance, drawn - predicted))
        return v + sigma_next * noises.normal(noises.fold_in(key, 2), x.shape, x.dtype), memory

    return Sampler(lambda x: (), step)

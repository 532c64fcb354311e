"""Multistep solvers of the probability-flow ODE: one evaluation of the score per step, and a memory."""

import jax.numpy as jnp

from jaxscore.samplers.base import Batch, Sampler, at


def dpm_solver_pp(order: int = 2) -> Sampler:
    """DPM-Solver++, the multistep form of order 1 or 2: one evaluation per step.

        x <- (sigma_next / sigma) x + (1 - e^-h) D',    h = ln(sigma / sigma_next)
        D' = D + h / (2 h_before) (D - D_before)        for order 2

    D = x + sigma^2 s(x, sigma) is the denoiser here, D_before the one of the step before, whose length was
    h_before. The first step and the step to sigma = 0, where x = D, have D' = D, as all steps of order 1 do:
    this is DDIM. A step is exact if D does not change along it.

    Source: Lu et al. 2022b, "DPM-Solver++", algorithm 2. Raises ValueError for another order.
    """
    if order not in (1, 2):
        raise ValueError(f"order = {order} must be 1 or 2")

    def init(x: Batch):
        return jnp.zeros_like(x), jnp.asarray(jnp.inf, x.dtype)

    def step(key, x, memory, score, sigma, sigma_next):
        del key  # deterministic
        before, sigma_before = memory
        denoised = x + sigma**2 * at(score, x, sigma)
        known = (order == 2) & (sigma_next > 0) & (sigma_before > sigma) & jnp.isfinite(sigma_before)
        h = jnp.log(sigma / jnp.where(known, sigma_next, sigma))
        h_before = jnp.log(jnp.where(known, sigma_before, 2 * sigma) / sigma)
        extrapolated = denoised + h / (2 * h_before) * (denoised - before)
        ratio = sigma_next / sigma
        return ratio * x + (1 - ratio) * extrapolated, (denoised, sigma)

    return Sampler(init, step)

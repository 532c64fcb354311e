"""Samplers that put the measurement into x before each step: replacement, and projection; repetition.

Replacement is for known values, projection for any linear measurement. Both make the measured part as noisy
as the level. The free part sees it, and follows it as sigma falls.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jaxscore import noise
from jaxscore.inverse.measured import Measurement, require, residual_of
from jaxscore.inverse.operators.linear import Operator, pseudo_inverse
from jaxscore.samplers.base import Sampler
from jaxscore.types import Array

Known = Float[Array, "..."]
Mask = Bool[Array, "..."]


def replacement(sampler: Sampler, known: Known, mask: Mask) -> Sampler:
    """The sampler, with the known pixels set to known + sigma z before each step; z ~ N(0, I) is drawn anew.

    Free pixels thus see neighbours that are as noisy as themselves. Use it for samplers that stay at sigma,
    inside `repeat`, and call `paste` at the end to insert the clean pixels. As sigma falls, the free pixels
    approach their distribution given the known ones. At large sigma, replacement forgets part of the
    dependence, because the noise of known and free pixels is drawn independently. More steps at the smaller
    levels repair this.

    Args:
        sampler: sampler that stays at sigma.
        known: values of the pixels, of the shape of an event, or [b, ...] for one event per row.
        mask: true where pixels are known, of the shape of an event, or [b, ...].

    Raises:
        ValueError: from the step, if known or mask do not fit x.

    Source: Song & Ermon 2019, algorithm 2 (appendix B.3), which is `repeat(replacement(langevin(...), ...),
    T)`.
    """

    def step(key, x, memory, score, sigma, sigma_next):
        z = noise.normal(noise.fold_in(key, 0), x.shape, x.dtype)
        noisy = paste(x, jnp.broadcast_to(_batched(known, x), x.shape) + sigma * z, mask)
        return sampler.step(noise.fold_in(key, 1), noisy, memory, score, sigma, sigma_next)

    return Sampler(sampler.init, step, sampler.order)


def paste(x: Float[Array, "b *event"], known: Known, mask: Mask) -> Float[Array, "b *event"]:
    """x with the known pixels where mask is true; both have the shape of an event, or [b, ...].

    Raises:
        ValueError: if they do not fit x.
    """
    return jnp.where(_batched(mask, x), _batched(known, x), x)


def projection(sampler: Sampler, operator: Operator, y: Measurement, *, weight: float = 1.0) -> Sampler:
    """The sampler, with x projected onto a noisy measurement before each step; z ~ N(0, I) is drawn anew.

        x <- x + weight A' (A A')^-1 (y + sigma A z - A x)

    For known values, A = `operators.mask`, weight 1 is `replacement`. The measurement counts as free of
    noise; a weight below 1 leaves room for some.

    Args:
        sampler: sampler that stays at sigma, or one that goes to sigma_next.
        operator: a linear one with `solve`.
        y: the measurement, [*measurement] or [b, *measurement].
        weight: lambda of the paper, in 0..1.

    Raises ValueError unless 0 <= weight <= 1, if the operator is not linear or has no `solve`, and from the
    step if y has not the shape of A x.

    Source: Song et al. 2022, "Solving inverse problems in medical imaging", algorithm 3.
    """
    require(operator, 0.0, "projection")
    if not 0 <= weight <= 1:
        raise ValueError(f"weight = {weight} must be in 0..1")

    def step(key, x, memory, score, sigma, sigma_next):
        z = noise.normal(noise.fold_in(key, 0), x.shape, x.dtype)
        x = x + weight * pseudo_inverse(operator, residual_of(operator, y, x - sigma * z))
        return sampler.step(noise.fold_in(key, 1), x, memory, score, sigma, sigma_next)

    return Sampler(sampler.init, step, sampler.order)


def resampled(sampler: Sampler, times: int) -> Sampler:
    """Returns the sampler that takes each step `times` times, and goes back up by noise in between.

        x at sigma_next -> x + sqrt(sigma^2 - sigma_next^2) z at sigma

    The free values thus adapt to the known ones: RePaint is `resampled(replacement(ancestral(), known, mask),
    times)`. The step to sigma = 0 is taken once. Give it a sampler that goes to sigma_next; one that stays
    at sigma is repeated by `samplers.repeat`.

    Raises ValueError if times < 1.

    Source: Lugmayr et al. 2022, algorithm 1, with jumps of one step.
    """
    if times < 1:
        raise ValueError(f"times = {times} must be at least 1")

    def step(key, x, memory, score, sigma, sigma_next):
        def again(number, carry):
            x, memory = carry
            here = noise.fold_in(key, number)
            z = noise.normal(noise.fold_in(here, 0), x.shape, x.dtype)
            x = x + jnp.sqrt(sigma**2 - sigma_next**2) * z
            return sampler.step(noise.fold_in(here, 1), x, memory, score, sigma, sigma_next)

        carry = sampler.step(noise.fold_in(key, times), x, memory, score, sigma, sigma_next)
        return jax.lax.fori_loop(0, jnp.where(sigma_next > 0, times - 1, 0), again, carry)

    return Sampler(sampler.init, step, sampler.order)


def _batched(a: Array, x: Array) -> Array:
    """The array with a batch axis, of length 1 if it is one event for all rows."""
    if a.shape not in (x.shape, x.shape[1:]):
        raise ValueError(f"shape {a.shape} fits neither the batch {x.shape} nor an event of it")
    return a if a.ndim == x.ndim else a[None]

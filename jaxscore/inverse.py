"""Inverse problems: samples that agree with a measurement.

So far there is one measurement, known pixels, and one method, inpainting by replacement. It makes any sampler
of `jaxscore.samplers` that stays at its noise level respect the known pixels:

>>> import functools, jax, jax.numpy as jnp
>>> from jaxscore import mixtures, noise, samplers
>>> score = functools.partial(mixtures.score, mixtures.ring())
>>> known, mask = jnp.array([0.0, 4.0]), jnp.array([True, False])      # the first coordinate is 0
>>> sigmas = noise.levels(noise.geometric(0.1, 10.0), 20)
>>> step = samplers.langevin(samplers.annealed(0.001, 0.1))
>>> completing = samplers.chain(samplers.repeat(replacement(step, known, mask), 5), samplers.denoise_last())
>>> x = samplers.prior(jax.random.key(0), (100, 2), sigmas[0])
>>> x, _ = samplers.sample(jax.random.key(1), x, sigmas, score, completing)
>>> paste(x, known, mask)[:, 0].max()
Array(0., dtype=float32)
"""

import jax.numpy as jnp
from jaxtyping import Bool, Float

from jaxscore import noise
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


def _batched(a: Array, x: Array) -> Array:
    """The array with a batch axis, of length 1 if it is one event for all rows."""
    if a.shape not in (x.shape, x.shape[1:]):
        raise ValueError(f"shape {a.shape} fits neither the batch {x.shape} nor an event of it")
    return a if a.ndim == x.ndim else a[None]

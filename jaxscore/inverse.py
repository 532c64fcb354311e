"""Inverse problems: samples that agree with what has been measured.

So far one measurement, some of the pixels: inpainting by replacement. Any sampler of
`jaxscore.samplers` that stays at its noise level is made to respect the known pixels:

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
    """Before each step of the sampler, the known pixels become known + sigma z, z ~ N(0, I) afresh.

    Song & Ermon 2019, algorithm 2 (appendix B.3), with `repeat(langevin(...), T)` of it at every level:
    x sees neighbours that are as noisy as itself. `mask` is true where pixels are known; each of the two
    has the shape of an event, or [b, ...] for an event each. For samplers that stay at sigma, inside
    `repeat`; at the end `paste` puts the clean pixels in. As sigma falls, the free pixels follow their
    distribution given the known ones; what replacement at large sigma forgets of them (the noise
    of the two was drawn apart) is mended by more steps at the smaller levels.
    Its step raises ValueError if known or mask do not fit x.
    """

    def step(key, x, memory, score, sigma, sigma_next):
        z = noise.normal(noise.fold_in(key, 0), x.shape, x.dtype)
        noisy = paste(x, jnp.broadcast_to(_batched(known, x), x.shape) + sigma * z, mask)
        return sampler.step(noise.fold_in(key, 1), noisy, memory, score, sigma, sigma_next)

    return Sampler(sampler.init, step)


def paste(x: Float[Array, "b *event"], known: Known, mask: Mask) -> Float[Array, "b *event"]:
    """x with the known pixels where mask is true, both of the shape of an event, or [b, ...].

    Raises ValueError if they do not fit x.
    """
    return jnp.where(_batched(mask, x), _batched(known, x), x)


def _batched(a: Array, x: Array) -> Array:
    """With a first axis, whether one for all examples or one for each."""
    if a.shape not in (x.shape, x.shape[1:]):
        raise ValueError(f"shape {a.shape} fits neither the batch {x.shape} nor an event of it")
    return a if a.ndim == x.ndim else a[None]

"""Inverse problems: samples of x that agree with a measurement y = A x + noise z.

`operators` has what is measured, A. The score is the prior. A method makes a score, or a sampler, of the
posterior:

    pigdm(score, A, y, ...)         a score for any sampler; the best one-line start
    diffpir(score, A, y, ...)       a score; no derivative of the network
    ddnm(score, A, y)               a score; for measurements without noise
    dps(sampler, A, y, ...)         a sampler; also for operators that are not linear
    decoupled(A, y, ...)            a sampler; anew from x0 at each level
    replacement(sampler, ...)       a sampler; known values are replaced before each step
    projection(sampler, A, y)       the same for any linear measurement
    resampled(sampler, times)       each step several times, with the noise put back in between
    twisted(key, score, A, y, ...)  particles; exact as particles and levels grow
    exact.posterior(mixture, A, y)  the truth, for a Gaussian mixture
    guidance.by(score, log_likelihood)      any log likelihood, in jaxscore.guidance

All but the last three are approximate, also with the exact score. Held against the truth:

>>> import functools, jax, jax.numpy as jnp
>>> from jaxscore import mixtures, noise, samplers
>>> prior = mixtures.ring()
>>> A, y = operators.mask(jnp.array([True, False])), jnp.array([0.0])      # the first coordinate is 0
>>> score, sigmas = functools.partial(mixtures.score, prior), noise.levels(noise.karras(0.01, 10.0), 40)
>>> given = pigdm(score, A, y, noise=0.1, sigma_data=3.0)
>>> drawn = samplers.generate(jax.random.key(0), (500, 2), sigmas, given, samplers.heun())
>>> truth = exact.posterior(prior, A, y, noise=0.1)
>>> mixtures.moments(truth)[0].shape, drawn.shape
((2,), (500, 2))
"""

from jaxscore.inverse import exact as exact
from jaxscore.inverse import operators as operators
from jaxscore.inverse.guided import ddnm as ddnm
from jaxscore.inverse.guided import decoupled as decoupled
from jaxscore.inverse.guided import diffpir as diffpir
from jaxscore.inverse.guided import dps as dps
from jaxscore.inverse.guided import pigdm as pigdm
from jaxscore.inverse.particles import Particles as Particles
from jaxscore.inverse.particles import twisted as twisted
from jaxscore.inverse.replacement import paste as paste
from jaxscore.inverse.replacement import projection as projection
from jaxscore.inverse.replacement import replacement as replacement
from jaxscore.inverse.replacement import resampled as resampled

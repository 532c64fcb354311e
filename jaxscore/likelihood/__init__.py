"""Likelihoods: log densities along the probability flow, a variational bound, and bits per dimension.

    log_density                exact up to the solver's error; D-dimensional trace, or K random probes
    bound                      variational lower bound, by Monte Carlo over noise levels: cheaper
    dequantise                 grey values to numbers with a density; K draws make the bound tighter
    bits_per_dimension         -log2 p / D of grey values
    encode, decode             examples to latents N(0, I) and back, along the flow
    interpolate                between latents

A density is in nats, of x in the units of the score. Bits per dimension are of grey values: only these have
probabilities. All functions can be used inside jit. They need the extra `solvers`, but for `bound`.

>>> import functools, jax, jax.numpy as jnp
>>> from jaxscore import mixtures, samplers
>>> mixture = mixtures.two_modes()
>>> x = mixtures.draw(jax.random.key(0), mixture, 1000)
>>> score, moments = functools.partial(mixtures.score, mixture), samplers.moments(x)
>>> given = {"sigma_min": 0.01, "sigma_max": 80.0, "moments": moments}
>>> found = log_density(score, jax.random.key(1), x[:4], **given, probes=None)
>>> bool(jnp.allclose(found.value, mixtures.log_density(mixture, x[:4], 0.01), atol=0.01))
True
"""

from jaxscore.likelihood.bound import Bound as Bound
from jaxscore.likelihood.bound import bound as bound
from jaxscore.likelihood.dequantise import Dequantised as Dequantised
from jaxscore.likelihood.dequantise import bits_per_dimension as bits_per_dimension
from jaxscore.likelihood.dequantise import dequantise as dequantise
from jaxscore.likelihood.flow import LogDensity as LogDensity
from jaxscore.likelihood.flow import decode as decode
from jaxscore.likelihood.flow import encode as encode
from jaxscore.likelihood.flow import interpolate as interpolate
from jaxscore.likelihood.flow import log_density as log_density

"""Samplers: pairs of pure functions that compose, and one loop, `sample`, that runs them.

    repeat(langevin(annealed(epsilon, sigma_L)), T)     annealed Langevin dynamics
    chain(repeat(langevin(...), T), denoise_last())     the same with the final denoising
    heun()                                              EDM's deterministic sampler
    churn(40.0, heun(), steps=18)                       EDM's stochastic sampler
    chain(langevin(...), heun())                        predictor-corrector
    ancestral()                                         DDPM's sampler

>>> import functools, jax
>>> from jaxscore import mixtures, noise
>>> score = functools.partial(mixtures.score, mixtures.ring())
>>> sigmas = noise.levels(noise.karras(0.01, 10.0), 18)
>>> x = prior(jax.random.key(0), (100, 2), sigmas[0])
>>> x, _ = sample(jax.random.key(1), x, sigmas, score, heun())
>>> x.shape
(100, 2)
"""

from jaxscore.samplers.base import Sampler as Sampler
from jaxscore.samplers.base import chain as chain
from jaxscore.samplers.base import churn as churn
from jaxscore.samplers.base import denoise_last as denoise_last
from jaxscore.samplers.base import memoryless as memoryless
from jaxscore.samplers.base import prior as prior
from jaxscore.samplers.base import repeat as repeat
from jaxscore.samplers.base import sample as sample
from jaxscore.samplers.langevin import annealed as annealed
from jaxscore.samplers.langevin import langevin as langevin
from jaxscore.samplers.ode import euler as euler
from jaxscore.samplers.ode import heun as heun
from jaxscore.samplers.sde import ancestral as ancestral

"""Samplers: pairs of pure functions that compose, and one loop, `sample`, that runs them.

    repeat(langevin(annealed(epsilon, sigma_L)), T)     annealed Langevin dynamics
    chain(repeat(langevin(...), T), denoise_last())     the same with the final denoising
    heun()                                              EDM's deterministic sampler
    churn(40.0, heun(), steps=18)                       EDM's stochastic sampler
    dpm_solver_pp(order=2), unipc(), deis(), lms()      multistep solvers, for few evaluations
    ancestral()                                         DDPM's sampler
    ancestral(dpm_solver_2())                           a solver of the flow, with noise after each step
    restart(heun(), sigma_min=0.1, sigma_max=1.0, steps=5)
                                                        up again with noise, and down once more
    consistent(epsilon / sigma_L**2)                    consistent annealed sampling
    chain(langevin_signal_to_noise(0.16), reverse_diffusion())
                                                        Song et al.'s predictor-corrector
    repeat(metropolis(log_density, step_size), T)       Metropolis-adjusted Langevin dynamics

`adaptive` chooses the levels by itself, and `optimised` finds the best levels for a few steps.

The memory of every Langevin sampler is a `Statistics`: acceptance, signal-to-noise ratio and norm of the
score. `sample(..., collect=lambda x, memory: memory)` returns it. Inside `per_level(...)` it describes each
level by itself. The memory of a chain is a tuple with the memory of each member.

>>> import functools, jax
>>> from jaxscore import mixtures, noise
>>> score = functools.partial(mixtures.score, mixtures.ring())
>>> sigmas = noise.levels(noise.karras(0.01, 10.0), 18)
>>> generate(jax.random.key(0), (100, 2), sigmas, score, heun()).shape
(100, 2)
>>> evaluations(heun(), 18)
35
"""

from jaxscore.samplers.adaptive import Solution as Solution
from jaxscore.samplers.adaptive import adaptive as adaptive
from jaxscore.samplers.base import Sampler as Sampler
from jaxscore.samplers.base import at as at
from jaxscore.samplers.base import chain as chain
from jaxscore.samplers.base import churn as churn
from jaxscore.samplers.base import denoise_last as denoise_last
from jaxscore.samplers.base import evaluations as evaluations
from jaxscore.samplers.base import generate as generate
from jaxscore.samplers.base import memoryless as memoryless
from jaxscore.samplers.base import repeat as repeat
from jaxscore.samplers.base import sample as sample
from jaxscore.samplers.consistent import consistent as consistent
from jaxscore.samplers.grids import optimised as optimised
from jaxscore.samplers.langevin import annealed as annealed
from jaxscore.samplers.langevin import langevin as langevin
from jaxscore.samplers.langevin import langevin_signal_to_noise as langevin_signal_to_noise
from jaxscore.samplers.langevin import langevin_signal_to_noise_coupled as langevin_signal_to_noise_coupled
from jaxscore.samplers.langevin import langevin_stability as langevin_stability
from jaxscore.samplers.metropolis import log_ratio_along_path as log_ratio_along_path
from jaxscore.samplers.metropolis import metropolis as metropolis
from jaxscore.samplers.metropolis import metropolis_along_path as metropolis_along_path
from jaxscore.samplers.multistep import deis as deis
from jaxscore.samplers.multistep import dpm_solver_pp as dpm_solver_pp
from jaxscore.samplers.multistep import lms as lms
from jaxscore.samplers.multistep import unipc as unipc
from jaxscore.samplers.ode import dpm_solver_2 as dpm_solver_2
from jaxscore.samplers.ode import dpm_solver_pp_2s as dpm_solver_pp_2s
from jaxscore.samplers.ode import euler as euler
from jaxscore.samplers.ode import heun as heun
from jaxscore.samplers.prior import Moments as Moments
from jaxscore.samplers.prior import moments as moments
from jaxscore.samplers.prior import prior as prior
from jaxscore.samplers.prior import start as start
from jaxscore.samplers.sde import ancestral as ancestral
from jaxscore.samplers.sde import dpm_solver_pp_sde as dpm_solver_pp_sde
from jaxscore.samplers.sde import euler_maruyama as euler_maruyama
from jaxscore.samplers.sde import restart as restart
from jaxscore.samplers.sde import reverse_diffusion as reverse_diffusion
from jaxscore.samplers.statistics import Statistics as Statistics
from jaxscore.samplers.statistics import per_level as per_level

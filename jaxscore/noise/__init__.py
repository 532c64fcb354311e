"""Noise schedules sigma(u), and random numbers that belong to a row.

A schedule is a quantile function u in [0, 1] -> sigma. With uniform random u it gives the training
distribution, and with an even grid of u the sampling grid:

>>> import jax
>>> sigma = lognormal(-1.2, 1.2)(stratified(jax.random.key(0), 64))   # [64], for training
>>> sigmas = levels(karras(0.002, 80.0), 18)                          # 80 > ... > 0.002 > 0
>>> sigmas.shape
(19,)

Random numbers are drawn row by row, with a key for each row's global number. Row i depends on (seed, i)
alone: not on the batch size, and not on the number of devices or processes that share the batch.

The process of DDPM has a table of steps in place of a schedule; `ddpm_levels` gives their noise levels:

>>> ddpm_levels(ddpm_betas())[[0, 999]].round(3).tolist()
[0.01, 157.407]
"""

from jaxscore.noise.ddpm import ddpm_betas as ddpm_betas
from jaxscore.noise.ddpm import ddpm_betas_at as ddpm_betas_at
from jaxscore.noise.ddpm import ddpm_levels as ddpm_levels
from jaxscore.noise.ddpm import ddpm_step as ddpm_step
from jaxscore.noise.rows import fold_in as fold_in
from jaxscore.noise.rows import normal as normal
from jaxscore.noise.rows import rademacher as rademacher
from jaxscore.noise.rows import row_keys as row_keys
from jaxscore.noise.rows import sphere as sphere
from jaxscore.noise.rows import typed as typed
from jaxscore.noise.schedules import cosine as cosine
from jaxscore.noise.schedules import density as density
from jaxscore.noise.schedules import flow as flow
from jaxscore.noise.schedules import geometric as geometric
from jaxscore.noise.schedules import karras as karras
from jaxscore.noise.schedules import levels as levels
from jaxscore.noise.schedules import lognormal as lognormal
from jaxscore.noise.schedules import stratified as stratified
from jaxscore.noise.schedules import sub_vp_linear as sub_vp_linear
from jaxscore.noise.schedules import sub_vp_time as sub_vp_time
from jaxscore.noise.schedules import uniform_over as uniform_over
from jaxscore.noise.schedules import vp_linear as vp_linear
from jaxscore.noise.schedules import vp_time as vp_time

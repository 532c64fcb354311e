"""Few-step models: consistency training and distillation, and reflow.

A consistency function f(x[b, ...], sigma[b]) -> like x takes a point x at level sigma to the end of its
probability flow, at the level sigma_min: f(x, sigma_min) = x. It has the form of a denoiser, so
`score.from_denoiser(f)` is a score that every sampler runs. One evaluation makes a sample:

>>> import functools, jax, jax.numpy as jnp
>>> from jaxscore import networks, noise, objectives, samplers
>>> from jaxscore.score import from_denoiser
>>> network = networks.MLP(width=32, depth=1)
>>> params = networks.init(network, (2,))(jax.random.key(0))
>>> f = functools.partial(preconditioned(network.apply, sigma_data=1.0), params)
>>> one, two = jnp.array([80.0, 0.0]), jnp.array([80.0, 0.8, 0.0])
>>> samplers.generate(jax.random.key(1), (100, 2), one, from_denoiser(f), samplers.euler()).shape
(100, 2)
>>> samplers.generate(jax.random.key(1), (100, 2), two, from_denoiser(f), renoise()).shape
(100, 2)

The objectives have the signature objective(f, key, x, sigma) -> [b] of `objectives`, with clean x, and
`objectives.over_levels` draws their noise levels:

    training(cells)              from data alone, over the cells of a grid of noise levels
    distillation(score, cells)   from a trained score
    continuous(sigma_data)       the limit of infinitely many cells, from data or from a score
    reflow(n)                    straight lines from x along given noise n, which `pairs` returns with x

>>> n = curriculum(jnp.int32(500), 2000)    # 21 levels at step 500 of 2000
>>> losses = objectives.over_levels(training(cells(n, 0.002, 80.0)), noise.lognormal(-1.1, 2.0))
>>> losses(f, jax.random.key(2), jnp.ones((8, 2))).shape
(8,)

An objective calls one function f at both ends of a cell, so both have the same parameters and, if a key for
dropout is bound to f, the same dropout. sigma falls along the probability flow, from sigma_max to sigma_min.
"""

from jaxscore.consistency.functions import from_score as from_score
from jaxscore.consistency.functions import preconditioned as preconditioned
from jaxscore.consistency.functions import renoise as renoise
from jaxscore.consistency.levels import MOST as MOST
from jaxscore.consistency.levels import Cells as Cells
from jaxscore.consistency.levels import cells as cells
from jaxscore.consistency.levels import curriculum as curriculum
from jaxscore.consistency.matching import continuous as continuous
from jaxscore.consistency.matching import distillation as distillation
from jaxscore.consistency.matching import gap as gap
from jaxscore.consistency.matching import training as training
from jaxscore.consistency.reflow import pairs as pairs
from jaxscore.consistency.reflow import reflow as reflow

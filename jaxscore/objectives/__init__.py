"""Objectives of score matching: what to minimise so that score(x, sigma) -> grad log p_sigma(x).

One signature, `objective(score, key, x, sigma) -> [b]`: a loss per example, which the caller averages.
Norms and traces are sums over the event (pixels, coordinates), not means. The loss is float32, or wider if
x is; sigma is [b], or one number. `over_levels` draws the noise levels.

    explicit                  1/2 |s(x) - grad log p(x)|^2            x ~ p_sigma, needs the true score
    implicit                  1/2 |s(x)|^2 + tr ds/dx                 x ~ p_sigma
    sliced                    E_v[v' (ds/dx) v + 1/2 (v' s)^2]        x ~ p_sigma
    sliced_variance_reduced   E_v[v' (ds/dx) v] + 1/2 |s|^2           x ~ p_sigma
    finite_difference         the same, v' (ds/dx) v a difference     x ~ p_sigma
    denoising                 1/2 |s(x + sigma n) + n / sigma|^2      x ~ p_0
    noise_conditional         lambda(sigma) x denoising               x ~ p_0

The first five take x from the density whose score is learnt; sigma only tells the network where it is.
The last two take clean data and add the noise. Energy models train on all of them:
`score.from_log_density` makes a score of any log density. A condition is bound before, with
functools.partial.

>>> import jax, jax.numpy as jnp
>>> exact = lambda x, sigma: -x / (1 + sigma[:, None] ** 2)            # x0 ~ N(0, I)
>>> x, sigma = jax.random.normal(jax.random.key(0), (8, 2)), jnp.full(8, 0.5)
>>> noise_conditional(exact, jax.random.key(1), x, sigma).shape
(8,)
>>> from jaxscore import noise
>>> over_levels(noise_conditional, noise.lognormal(-1.2, 1.2))(exact, jax.random.key(2), x).shape
(8,)

Networks must be twice differentiable where a trace or a slice is taken: no derivative sees what the trace
of a ReLU network gains at its kinks (use SiLU, softplus or ELU; `diagnostics.kinked` finds such
networks). Batch normalisation couples the examples, which corrupts the trace.
"""

from jaxscore.objectives.levels import over_levels as over_levels
from jaxscore.objectives.matching import Objective as Objective
from jaxscore.objectives.matching import denoising as denoising
from jaxscore.objectives.matching import explicit as explicit
from jaxscore.objectives.matching import finite_difference as finite_difference
from jaxscore.objectives.matching import implicit as implicit
from jaxscore.objectives.matching import noise_conditional as noise_conditional
from jaxscore.objectives.matching import sliced as sliced
from jaxscore.objectives.matching import sliced_variance_reduced as sliced_variance_reduced
from jaxscore.objectives.weights import Weight as Weight
from jaxscore.objectives.weights import edm as edm
from jaxscore.objectives.weights import flow_matching as flow_matching
from jaxscore.objectives.weights import likelihood as likelihood
from jaxscore.objectives.weights import min_snr as min_snr
from jaxscore.objectives.weights import one as one
from jaxscore.objectives.weights import sigma_squared as sigma_squared
from jaxscore.objectives.weights import sigmoid as sigmoid
from jaxscore.objectives.weights import soft_min_snr as soft_min_snr
from jaxscore.objectives.weights import uncertain as uncertain

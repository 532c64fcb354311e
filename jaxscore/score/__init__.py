"""From a network, a denoiser, a velocity, a noise prediction or a log density to a score, and back.

Everything in this library works in one coordinate system, x = x0 + sigma n, and with one function:
score(x[b, ...], sigma[b]) -> [b, ...]. The functions here make such a score from what is at hand; `denoise`
uses it. Those that take a network return score(params, x, sigma, condition=None); bind the parameters, and
the condition if there is one, with functools.partial:

>>> import functools, jax, jax.numpy as jnp
>>> from jaxscore.networks import MLP
>>> network = MLP(width=32, depth=1)
>>> x, sigma = jnp.zeros((4, 2)), jnp.ones(4)
>>> params = network.init(jax.random.key(0), x, sigma)
>>> score = functools.partial(preconditioned(network.apply, sigma_data=0.5), params)
>>> score(x, sigma).shape
(4, 2)
"""

from jaxscore.score.coordinates import denoise as denoise
from jaxscore.score.coordinates import from_denoiser as from_denoiser
from jaxscore.score.coordinates import from_log_density as from_log_density
from jaxscore.score.coordinates import from_noise_prediction as from_noise_prediction
from jaxscore.score.coordinates import from_v_prediction as from_v_prediction
from jaxscore.score.coordinates import from_velocity as from_velocity
from jaxscore.score.coordinates import sub_vp as sub_vp
from jaxscore.score.coordinates import vp as vp
from jaxscore.score.parametric import at_levels as at_levels
from jaxscore.score.parametric import over_sigma as over_sigma
from jaxscore.score.parametric import preconditioned as preconditioned
from jaxscore.score.parametric import preconditioned_flow as preconditioned_flow
from jaxscore.score.parametric import preconditioned_log_density as preconditioned_log_density
from jaxscore.score.parametric import preconditioned_ve as preconditioned_ve
from jaxscore.score.parametric import preconditioned_vp as preconditioned_vp

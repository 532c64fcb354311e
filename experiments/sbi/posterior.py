"""Learnt posteriors: draws and log densities of p(theta | y), row by row, in the task's own parameters."""

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from experiments.sbi.config import Sampling
from experiments.sbi.coordinates import Coordinates
from jaxscore import likelihood, noise, samplers
from jaxscore.types import AnyArray, Array, Key, ParametricScore


class Posterior(NamedTuple):
    """A conditional score, and the coordinates that it has learnt the parameters in."""

    score: ParametricScore
    """score(params, z[b, d], sigma[b], y[b, m]) -> [b, d], of encoded parameters z, given data y."""
    parameters: Coordinates
    """The coordinates z of parameters theta."""
    moments: samplers.Moments
    """Mean and covariance of z under the prior, with which sampling starts."""
    sampling: Sampling

    def draw(self, params: Any, keys: Key, y: Float[AnyArray, "b m"]) -> Float[Array, "b d"]:
        """Returns one draw of p(theta | y) for each row of y; row i depends on keys[i] and y[i] alone.

        The number of evaluations of the network is fixed, so any y is answered in the same time.
        """
        levels = noise.levels(
            noise.karras(self.sampling.sigma_min, self.sampling.sigma_max), self.sampling.levels
        )
        score = partial(self.score, params, condition=jnp.asarray(y, float))
        solver, event = samplers.dpm_solver_pp(order=2), self.moments.mean.shape
        z = samplers.generate(keys, event, levels, score, solver, moments=self.moments)
        return self.parameters.decode(z)

    def log_density(
        self,
        params: Any,
        key: Key,
        theta: Float[AnyArray, "b d"],
        y: Float[AnyArray, "b m"],
        *,
        tolerance: float = 1e-3,
    ) -> Float[Array, "b"]:
        """Returns log p(theta | y) of each row in nats; -inf outside of the prior's support.

            log p(theta | y) = log q(z | y) + log |det dz / dtheta|,    z = encode(theta)

        q is the density along the probability flow, with the exact trace. The value is that of theta with
        noise of the level `sigma_min`. At `sigma_max` the flow is taken to have the prior's moments, whatever
        y is. This makes an error of about |E[z | y]| / sigma_max nats.
        """
        theta = jnp.asarray(theta, float)
        score = partial(self.score, params, condition=jnp.asarray(y, float))
        levels = {"sigma_min": self.sampling.sigma_min, "sigma_max": self.sampling.sigma_max}
        given = {"probes": None, "moments": self.moments, "rtol": tolerance, "atol": tolerance}
        z = self.parameters.encode(theta)
        found = likelihood.log_density(score, key, z, **levels, **given)
        return found.value + self.parameters.log_det(theta)


def blocks(function: Any, rows: int, *columns: Any) -> Array:
    """Returns function(*columns), computed in blocks of so many rows; the last block is padded.

    The function sees one shape only, so it is compiled once.
    """
    n = len(columns[0])
    rows = min(rows, n)
    parts = []
    for start in range(0, n, rows):
        numbers = jnp.minimum(jnp.arange(start, start + rows), n - 1)
        parts.append(function(*(column[numbers] for column in columns)))
    return jnp.concatenate(parts)[:n]

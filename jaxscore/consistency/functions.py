"""Consistency functions: from a network to one, and from one to samples."""

import functools
import math

import jax.numpy as jnp
from jaxtyping import Float

from jaxscore import noise, samplers
from jaxscore.types import (
    Array,
    Condition,
    NetFn,
    ParametricScore,
    Params,
    Sigma,
    alike,
    right,
    shaped,
)

Batch = Float[Array, "b *event"]
Levels = Float[Array, "b"]


def preconditioned(net: NetFn, sigma_data: float, sigma_min: float = 0.002) -> ParametricScore:
    """f(params, x, sigma, condition) = c_skip x + c_out F(x / sqrt(v), ln(sigma) / 4).

        c_skip = sigma_data^2 / ((sigma - sigma_min)^2 + sigma_data^2)
        c_out = sigma_data (sigma - sigma_min) / sqrt(v),    v = sigma^2 + sigma_data^2

    F is the network. At sigma_min the result is x, to the last bit. With the same parameters f is close to
    the denoiser of `score.preconditioned`, from which training may start.

    Raises ValueError unless sigma_data and sigma_min are positive.

    Source: Song et al. 2023, "Consistency models", appendix C.
    """
    _require_positive(sigma_data=sigma_data, sigma_min=sigma_min)

    def function(params: Params, x: Batch, sigma: Sigma, condition: Condition = None) -> Batch:
        given = () if condition is None else (condition,)

        def formula(x: Batch, sigma: Levels) -> Batch:
            s, root = right(sigma - sigma_min, x), right(jnp.sqrt(sigma**2 + sigma_data**2), x)
            f = alike(net(params, x / root, jnp.log(sigma) / 4, *given), x, "network's output")
            return sigma_data**2 / (s**2 + sigma_data**2) * x + sigma_data * s / root * f

        return shaped(formula)(x, sigma)

    return function


def from_score(score: ParametricScore, sigma_min: float = 0.002) -> ParametricScore:
    """f(params, x, sigma, condition) = x + (sigma - sigma_min) sigma s(params, x, sigma, condition).

    This is Euler's step of the probability flow from sigma to sigma_min, so any trained score is a first
    guess of its own consistency function, whatever its network. At sigma_min the result is x.

    Raises ValueError unless sigma_min is positive.
    """
    _require_positive(sigma_min=sigma_min)

    def function(params: Params, x: Batch, sigma: Sigma, condition: Condition = None) -> Batch:
        given = {} if condition is None else {"condition": condition}
        own = shaped(functools.partial(score, params, **given))
        step = lambda x, sigma: x + right((sigma - sigma_min) * sigma, x) * own(x, sigma)
        return shaped(step)(x, sigma)

    return function


def renoise(sigma_min: float = 0.002) -> samplers.Sampler:
    """x <- f(x, sigma) + sqrt(sigma_next^2 - sigma_min^2) z, with the score `from_denoiser(f)`.

    A step costs one evaluation. No noise is added on the step to sigma_next = 0. Two levels above zero are
    usual. Raises ValueError unless sigma_min > 0.

    Source: Song et al. 2023, algorithm 1.
    """
    _require_positive(sigma_min=sigma_min)

    def move(key, x, score, sigma, sigma_next):
        z = noise.normal(key, x.shape, x.dtype)
        added = jnp.sqrt(jnp.maximum(sigma_next**2 - sigma_min**2, 0.0))
        return x + sigma**2 * samplers.at(score, x, sigma) + added * z

    return samplers.memoryless(move)


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} = {value} must be positive and finite")

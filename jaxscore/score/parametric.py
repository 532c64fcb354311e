"""From a network to score(params, x, sigma, condition=None): preconditionings."""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from jaxtyping import Float

from jaxscore.types import (
    Array,
    Condition,
    NetFn,
    ParametricScore,
    Params,
    ScoreFn,
    Sigma,
    alike,
    per_row,
    right,
    shaped,
    wide,
)

Batch = Float[Array, "b *event"]
Levels = Float[Array, "b"]


def preconditioned(net: NetFn, sigma_data: float) -> ParametricScore:
    """score = -x / v + sigma_data / (sigma sqrt(v)) F(x / sqrt(v), ln(sigma) / 4).

    v = sigma^2 + sigma_data^2, F the network. This is the preconditioning of Karras et al. 2022 (table 1)
    solved for the score, without the cancellation that (D - x) / sigma^2 has at small sigma. The first
    term is the score of a Gaussian with standard deviation sigma_data, the second one what the network
    has learnt; a network whose output layer is zero starts at exactly that Gaussian. The sum is float32,
    whatever the network computes in. Raises ValueError unless sigma_data > 0.
    """
    _require_positive(sigma_data)

    def score(f: ScoreFn, x: Batch, sigma: Levels) -> Batch:
        s = right(sigma, x)
        v = s**2 + sigma_data**2
        return -x / v + sigma_data / (s * jnp.sqrt(v)) * f(x / jnp.sqrt(v), jnp.log(sigma) / 4)

    return _parametric(net, score)


def preconditioned_log_density(net: NetFn, sigma_data: float) -> Callable[..., Array]:
    """log q(params, x, sigma, condition) = -|x|^2 / 2v + sigma_data / sigma <u, F(u, ln(sigma) / 4)>, [b].

    u = x / sqrt(v), v = sigma^2 + sigma_data^2, F the network. An energy model, -log q up to its unknown
    constant, made of any network whose output has the shape of its input (Salimans & Ho 2021, the
    inner-product form). Its gradient has the scale of `preconditioned`, and with an output layer of zeros
    it starts at the same Gaussian. The score is `from_log_density(partial(log_density, params))`, a
    gradient field. Raises ValueError unless sigma_data > 0.
    """
    _require_positive(sigma_data)

    def log_density(params: Params, x: Batch, sigma: Sigma, condition: Condition = None) -> Float[Array, "b"]:
        x = wide(x)
        sigma = per_row(sigma, x)
        v = sigma**2 + sigma_data**2
        scaled = x / right(jnp.sqrt(v), x)
        f = _bound(net, params, condition)(scaled, jnp.log(sigma) / 4)
        event = tuple(range(1, x.ndim))
        return -jnp.sum(x**2, axis=event) / (2 * v) + sigma_data / sigma * jnp.sum(scaled * f, axis=event)

    return log_density


def over_sigma(net: NetFn) -> ParametricScore:
    """score(params, x, sigma, condition) = F(x) / sigma (Song & Ermon 2020, technique 3).

    F is also given ln(sigma) / 4, at which NCSNv2's unconditional network does not look.
    """
    return _parametric(net, lambda f, x, sigma: f(x, jnp.log(sigma) / 4) / right(sigma, x))


def preconditioned_ve(net: NetFn) -> ParametricScore:
    """score(params, x, sigma, condition) = F(x, ln(sigma / 2)) / sigma, F the network.

    For networks of the VE process (Song et al. 2021, NCSN++), on data in -1..1. In the units of Song et al.,
    who have data in 0..1, the noise level is sigma / 2. Source: Karras et al. 2022, table 1, column VE.
    """
    return _parametric(net, lambda f, x, sigma: f(x, jnp.log(sigma / 2)) / right(sigma, x))


def preconditioned_vp(
    net: NetFn, c_noise: Callable[[Levels], Levels], prediction: str = "noise"
) -> ParametricScore:
    """Score from a network in VP coordinates, which is given u = x / r, r = sqrt(1 + sigma^2).

        noise      F predicts n                                score = -F / sigma
        velocity   F predicts (n - sigma x0) / r               score = -x / r^2 - F / (sigma r)
        clean      F predicts x0                               score = (F - x) / sigma^2

    F = F(u, c_noise(sigma)). A network with learnt variances returns more channels than x has; the first ones
    are the prediction.

    Args:
        net: the network.
        c_noise: sigma[b] -> the noise level as the network is given it, such as the number of a step.
        prediction: what the network predicts.

    Raises ValueError for another prediction. Source: Ho et al. 2020, equation 11; Salimans & Ho 2022,
    appendix D (velocity); Karras et al. 2022, table 1, columns VP and iDDPM.
    """
    formulas = {
        "noise": lambda f, x, s, r: -f / s,
        "velocity": lambda f, x, s, r: -x / r**2 - f / (s * r),
        "clean": lambda f, x, s, r: (f - x) / s**2,
    }
    if prediction not in formulas:
        raise ValueError(f"prediction {prediction!r} is not known; use {', '.join(formulas)}")
    first = lambda params, x, *given: net(params, x, *given)[..., : x.shape[-1]]

    def score(f: ScoreFn, x: Batch, sigma: Levels) -> Batch:
        s, r = right(sigma, x), right(jnp.sqrt(1 + sigma**2), x)
        return formulas[prediction](f(x / r, c_noise(sigma)), x, s, r)

    return _parametric(first, score)


def preconditioned_flow(net: NetFn) -> ParametricScore:
    """score = -(x + F) / (sigma (1 + sigma)), F = F(x / (1 + sigma), sigma / (1 + sigma)).

    F is the velocity n - x0 of flow matching, and is given x_t and t, as in `from_velocity`. It is trained by
    `objectives.noise_conditional` with the weight `objectives.flow_matching`. Source: Lipman et al. 2023.
    """

    def score(f: ScoreFn, x: Batch, sigma: Levels) -> Batch:
        s = right(sigma, x)
        return -(x + f(x / (1 + s), sigma / (1 + sigma))) / (s * (1 + s))

    return _parametric(net, score)


def at_levels(net: NetFn, sigmas: Float[Array, "L"]) -> ParametricScore:
    """score(params, x, sigma, condition) = F(x, l), l the index of the level sigmas[l] nearest in ln(sigma).

    For NCSN's network (Song & Ermon 2019), which is given the index of the noise level, counted from 0, and
    returns the score itself.
    """

    def score(f: ScoreFn, x: Batch, sigma: Levels) -> Batch:
        distance = jnp.abs(jnp.log(sigma)[:, None] - jnp.log(sigmas)[None])
        return f(x, jnp.argmin(distance, axis=1))

    return _parametric(net, score)


def _parametric(net: NetFn, formula: Callable[[ScoreFn, Array, Array], Array]) -> ParametricScore:
    """Returns the score formula(f, x, sigma); f(x, c_noise) is the network with its parameters."""

    def score(params: Params, x: Batch, sigma: Sigma, condition: Condition = None) -> Batch:
        return shaped(partial(formula, _bound(net, params, condition)))(x, sigma)

    return score


def _bound(net: NetFn, params: Params, condition: Condition) -> ScoreFn:
    """Returns f(x, c_noise), in the type of x. A network without conditions is not given one."""
    given = () if condition is None else (condition,)
    return lambda x, c_noise: alike(net(params, x, c_noise, *given), x, "network's output")


def _require_positive(sigma_data: float) -> None:
    if sigma_data <= 0:
        raise ValueError(f"sigma_data = {sigma_data} must be positive")

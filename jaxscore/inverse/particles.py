"""The twisted diffusion sampler: weighted particles, exact as particles and levels grow."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Bool, Float

from jaxscore import noise as noises
from jaxscore import sharding
from jaxscore.inverse.measured import (
    Measurement,
    denoised,
    event_of,
    require_noise,
    residual_of,
    spread,
    value,
    whitened,
)
from jaxscore.inverse.operators.linear import Operator
from jaxscore.samplers.base import checked
from jaxscore.samplers.prior import Moments, prior
from jaxscore.types import Array, Key, ScoreFn, shaped


class Particles(NamedTuple):
    """Draws from the posterior, and what happened to the particles at each level sigma_1 > ... > sigma_n."""

    x: Float[Array, "particles *event"]
    """Particles of equal weight; those that were resampled occur several times."""
    ess: Float[Array, "n"]
    """Effective sample size at each level before resampling, (sum w)^2 / sum w^2, from 1 to `particles`."""
    resampled: Bool[Array, "n"]
    """Whether the particles were resampled at the level: where ess < particles / 2."""


def twisted(
    key: Key,
    score: ScoreFn,
    operator: Operator,
    y: Measurement,
    *,
    noise: float | Array,
    sigmas: Float[Array, "n_plus_1"],
    particles: int,
    event: tuple[int, ...] | None = None,
    sigma_data: float | Array = 1.0,
    moments: Moments | None = None,
    mesh: Mesh | None = None,
) -> Particles:
    """Draws from the posterior given y, by sequential Monte Carlo: the twisted diffusion sampler.

        prior step    p(x' | x), the step of `samplers.ancestral`
        twist         g(x, sigma) = N(y; A D(x, sigma), r^2 A A' + noise^2 I), in place of p(y | x)
        proposal      q(x' | x), the prior step with s + grad log g in place of s
        weight        p(x' | x) g(x', sigma') / (q(x' | x) g(x, sigma))

    r^2 is that of `pigdm`. At sigma = 0 the twist is the likelihood itself. As the number of particles grows,
    they converge to the posterior of the prior that the steps draw from, whatever the twist; a better twist
    needs fewer. That prior is the data's up to an error of the steps, which more levels reduce.

    Particles are resampled (systematically) when the effective sample size falls below half of their number.
    All particles belong together: for independent draws, map this function over keys.

    Args:
        key: one key.
        score: of the prior.
        operator: any operator; if it is not linear, the covariance of the twist is (r^2 + noise^2) I.
        y: one measurement [*measurement].
        noise: its standard deviation, above 0.
        sigmas: the levels sigma_1 > ... > sigma_n > 0, as `noise.levels` makes them.
        particles: their number.
        event: shape of an example; by default the one that the operator's adjoint makes of y.
        sigma_data: standard deviation of the data, one number for all coordinates.
        moments: of the data, for a better start; see `samplers.prior`.
        mesh: splits the particles over its devices (`sharding.mesh()`); inside jit.

    Raises ValueError if noise <= 0, if y has not the shape of A x, if the devices of the mesh do not divide
    the particles, if the operator is not linear and there is no event, and as `samplers.generate` does.

    Source: Wu et al. 2023, algorithm 1.
    """
    _require(noise, particles, 1 if mesh is None else mesh.size)
    event = event_of(operator, y) if event is None else event
    place = lambda x: x if mesh is None else jax.lax.with_sharding_constraint(x, sharding.batched(mesh))
    sigmas, score = checked(sigmas, to_zero=True), shaped(score)
    twist = lambda x, sigma: _twist(score, operator, y, noise, sigma_data, x, sigma)
    x = place(prior(noises.fold_in(key, 0), (particles, *event), sigmas[0], moments))
    first = twist(x, sigmas[0])

    def body(carry, inputs):
        x, at, log_weights = carry
        number, sigma, sigma_next = inputs
        ess, low, ancestors = _ancestors(noises.fold_in(key, 2 * number + 1), log_weights)
        x, at = jax.tree.map(lambda a: place(jnp.where(low, a[ancestors], a)), (x, at))
        log_weights = jnp.where(low, 0.0, log_weights)
        z = noises.normal(noises.fold_in(key, 2 * number + 2), x.shape, x.dtype)
        x, log_ratio = _move(x, at, z, sigma, sigma_next)
        after = twist(x, sigma_next)
        log_weights = log_weights + log_ratio + after.log_g - at.log_g
        return (place(x), after, log_weights), (ess, low)

    steps = (jnp.arange(len(sigmas) - 2), sigmas[:-2], sigmas[1:-1])
    (x, at, log_weights), (ess, resampled) = jax.lax.scan(body, (x, first, first.log_g), steps)
    x = x + sigmas[-2] ** 2 * at.score  # the step to sigma = 0 has no noise
    residual = residual_of(operator, y, x) / noise
    log_likelihood = -jnp.sum(residual.reshape(particles, -1) ** 2, axis=1) / 2
    key = noises.fold_in(key, 2 * len(sigmas))
    last, _, ancestors = _ancestors(key, log_weights + log_likelihood - at.log_g)
    return Particles(place(x[ancestors]), jnp.append(ess, last), jnp.append(resampled, True))


def _require(noise: float | Array, particles: int, devices: int) -> None:
    require_noise(noise)
    if value(noise) == 0:
        raise ValueError("noise = 0: no particle agrees with y exactly; give the noise of the measurement")
    if particles < 1 or particles % devices:
        need = f"at least 1, and divisible by {devices}, the number of devices"
        raise ValueError(f"particles = {particles} must be {need}")


class _Twist(NamedTuple):
    score: Array
    log_g: Array
    gradient: Array


def _twist(score, operator, y, noise, sigma_data, x, sigma) -> _Twist:
    """Returns the score of the prior, log g up to a constant of the level, and its gradient."""
    at = denoised(score, x, jnp.full(len(x), sigma, x.dtype))
    variance = spread(sigma, sigma_data)
    residual, back = jax.vjp(lambda x: residual_of(operator, y, x), at.mean)
    if operator.adjoint is None:
        white = residual / (variance + noise**2)
    else:
        white = whitened(operator, variance, noise, residual)
    log_g = -jnp.sum((residual * white).reshape(len(x), -1), axis=1) / 2
    return _Twist(at.score, log_g, at.pull(back(-white)[0]))


def _move(x: Array, at: _Twist, z: Array, sigma: Array, sigma_next: Array) -> tuple[Array, Array]:
    """Returns x' after the guided step, and log p(x' | x) - log q(x' | x)."""
    removed = sigma**2 - sigma_next**2
    std = sigma_next * jnp.sqrt(removed) / sigma
    added = removed * at.gradient
    # x' = m + added + std z, m the mean of p: |x' - m|^2 - |std z|^2 = |added|^2 + 2 std <added, z>.
    ratio = -(added**2 / 2 + std * added * z) / std**2
    return x + removed * at.score + added + std * z, jnp.sum(ratio.reshape(len(x), -1), axis=1)


def _ancestors(key: Key, log_weights: Array) -> tuple[Array, Array, Array]:
    """Returns the effective sample size, whether it is low, and the ancestors of a systematic resampling."""
    n, weights = len(log_weights), jax.nn.softmax(log_weights)
    ess = 1 / jnp.sum(weights**2)
    grid = (jnp.arange(n) + jax.random.uniform(key)) / n
    ancestors = jnp.searchsorted(jnp.cumsum(weights), grid).clip(0, n - 1)
    return ess, ess < n / 2, ancestors

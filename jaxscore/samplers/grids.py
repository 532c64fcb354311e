"""Sampling grids that are made for a model: the levels with the least error at a given number of steps."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from jaxscore import noise
from jaxscore.samplers.base import Batch, Sampler, sample
from jaxscore.samplers.ode import heun
from jaxscore.types import Array, ScoreFn


def optimised(
    x: Batch,
    sigmas: Float[Array, "n_plus_1"],
    score: ScoreFn,
    sampler: Sampler,
    *,
    steps: int = 200,
    learning_rate: float = 0.03,
    converged: int = 128,
) -> Float[Array, "n_plus_1"]:
    """Returns levels, as many as were given, along which the sampler comes nearer to the probability flow.

        minimise over sigma_2 > ... > sigma_n:    E |sample(x, sigmas) - x_0|^2

    x_0 is the end of the probability flow from the same x, by Heun's method. Adam moves the logarithms of the
    gaps ln(sigma_i / sigma_(i+1)) along the gradient through the sampler. The first level stays, because x is
    there, and the others stay above the smallest level that was given. The levels with the least error on the
    way are returned.

    The search costs about 3 `steps` times as much as sampling the x. Its levels are for this model, this
    sampler and this number of steps.

    Args:
        x: starting points at sigmas[0]; a hundred are enough, because only n numbers are fitted.
        sigmas: levels to start from, which end in zero, as those of `noise.levels`.
        score: the score, with parameters and condition bound.
        sampler: a deterministic sampler.
        steps: of Adam.
        learning_rate: of Adam.
        converged: how many levels Heun's method has.

    Raises ValueError for levels that do not end in zero, without steps, and if no sample is finite.

    Source: the aim is that of Sabour et al. 2024, "Align your steps", who minimise a bound instead.
    """
    if float(sigmas[-1]) != 0 or steps < 1:
        raise ValueError(f"sigmas must end in zero and steps be positive, not {sigmas[-1]} and {steps}")
    key = jax.random.key(0)  # deterministic samplers do not use it
    fine = noise.levels(noise.karras(float(sigmas[-2]) / 2, float(sigmas[0])), converged)
    truth = jax.jit(lambda x: sample(key, x, fine, score, heun())[0])(x)

    def levels(gaps: Array) -> Array:
        """The last gap lies below sigma_n, which may end above the smallest level that was given."""
        parts = jnp.cumsum(jax.nn.softmax(gaps))[:-1]
        below = sigmas[0] * (sigmas[-2] / sigmas[0]) ** parts
        return jnp.concatenate([sigmas[:1], below, jnp.zeros_like(sigmas[:1])])

    def error(gaps: Array) -> Array:
        end, _ = sample(key, x, levels(gaps), jax.checkpoint(score), sampler)
        return jnp.mean((end - truth) ** 2)

    tx = optax.adam(learning_rate)

    def step(carry, _):
        gaps, state, least, best = carry
        value, slope = jax.value_and_grad(error)(gaps)
        best = jnp.where(value < least, gaps, best)
        updates, state = tx.update(slope / (value + 1e-12), state)  # the gradient of the error's logarithm
        return (optax.apply_updates(gaps, updates), state, jnp.minimum(value, least), best), None

    def search(gaps):
        start = (gaps, tx.init(gaps), jnp.asarray(jnp.inf, gaps.dtype), gaps)
        _, _, least, best = jax.lax.scan(step, start, None, length=steps)[0]
        return levels(best), least

    gaps = jnp.log(sigmas[:-2] / sigmas[1:-1])
    found, least = jax.jit(search)(jnp.log(jnp.append(gaps, 0.01 * gaps.sum())))
    if not jnp.isfinite(least):
        raise ValueError("the samples are not finite along the levels that were given: check the score and x")
    return found

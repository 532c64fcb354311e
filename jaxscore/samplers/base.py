"""What a sampler is, how samplers compose, and the one loop that runs them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore import noise
from jaxscore.types import Array, Key, ScoreFn

Batch = Float[Array, "b *event"]
Scalar = Float[Array, ""]
Memory = Any


class Sampler(NamedTuple):
    """A pair of pure functions.

    init(x) -> memory
    step(key, x, memory, score, sigma, sigma_next) -> (x, memory)

    x[b, ...] is at the scalar noise level sigma and is taken to the scalar sigma_next. The key is
    one per row (or one for all), the memory any pytree: () for most.
    """

    init: Callable[[Array], Memory]
    step: Callable[[Key, Array, Memory, ScoreFn, Array, Array], tuple[Array, Memory]]


def memoryless(move: Callable[[Key, Array, ScoreFn, Array, Array], Array]) -> Sampler:
    """The sampler that remembers nothing: move(key, x, score, sigma, sigma_next) -> x."""

    def step(key, x, memory, score, sigma, sigma_next):
        return move(key, x, score, sigma, sigma_next), memory

    return Sampler(init=lambda x: (), step=step)


def sample(
    key: Key,
    x: Batch,
    sigmas: Float[Array, "n_plus_1"],
    score: ScoreFn,
    sampler: Sampler,
    *,
    collect: Callable[[Array, Memory], Any] | None = None,
) -> tuple[Batch, Any]:
    """Take x along sigmas[0] > sigmas[1] > ... by the sampler's step, in one `lax.scan`.

    Returns the last x, and `collect(x, memory)` after every step, stacked along a new first axis
    (None when nothing is asked for: memory is then constant in the number of steps). Row i of the
    result depends on row i of x and on (key, i) alone; pass an array of keys, one per row (see
    `noise.row_keys`), when the batch is a part of a larger one.
    """
    keys = noise.row_keys(key, x.shape[0])

    def body(carry, inputs):
        x, memory = carry
        number, sigma, sigma_next = inputs
        x, memory = sampler.step(noise.fold_in(keys, number), x, memory, score, sigma, sigma_next)
        return (x, memory), collect(x, memory) if collect else None

    steps = (jnp.arange(len(sigmas) - 1), sigmas[:-1], sigmas[1:])
    (x, _), collected = jax.lax.scan(body, (x, sampler.init(x)), steps)
    return x, collected


def prior(key: Key, shape: tuple[int, ...], sigma: float | Array) -> Batch:
    """Where sampling starts: N(0, sigma^2 I), sigma the largest noise level."""
    return sigma * noise.normal(key, shape)


def chain(*samplers: Sampler) -> Sampler:
    """Each step is a step of every sampler in turn, all of them told the same sigma, sigma_next.

    `chain(langevin(...), heun())` is predictor-corrector sampling (Song et al. 2021, algorithm 1):
    the corrector first, at sigma, and then the predictor to sigma_next. The other order corrects at
    the sigma that the predictor has just left, and is measurably worse.
    """

    def init(x):
        return tuple(sampler.init(x) for sampler in samplers)

    def step(key, x, memory, score, sigma, sigma_next):
        after = []
        for number, (sampler, before) in enumerate(zip(samplers, memory, strict=True)):
            part = noise.fold_in(key, number)
            x, now = sampler.step(part, x, before, score, sigma, sigma_next)
            after.append(now)
        return x, tuple(after)

    return Sampler(init, step)


def repeat(sampler: Sampler, times: int) -> Sampler:
    """Each step is `times` steps of the sampler at the same sigma.

    `repeat(langevin(...), T)` is annealed Langevin dynamics (Song & Ermon 2019, algorithm 1). For
    samplers that stay at sigma: a step that has already gone to sigma_next cannot be repeated.
    Raises ValueError if times < 1.
    """
    if times < 1:
        raise ValueError(f"times = {times} must be at least 1")

    def step(key, x, memory, score, sigma, sigma_next):
        def body(number, carry):
            x, memory = carry
            return sampler.step(noise.fold_in(key, number), x, memory, score, sigma, sigma_next)

        return jax.lax.fori_loop(0, times, body, (x, memory))

    return Sampler(sampler.init, step)


def churn(
    amount: float,
    sampler: Sampler,
    *,
    steps: int,
    sigma_min: float = 0.0,
    sigma_max: float = float("inf"),
    noise_scale: float = 1.0,
) -> Sampler:
    """Before each step raise the noise to sigma_hat = (1 + gamma) sigma, then step from there.

    gamma = min(amount / steps, sqrt(2) - 1) where sigma_min <= sigma <= sigma_max, else 0; the
    noise added is N(0, noise_scale^2 (sigma_hat^2 - sigma^2) I). With `heun()` this is the
    stochastic sampler of Karras et al. 2022, algorithm 2: `amount` is their S_churn, `steps` their
    N, the other three S_tmin, S_tmax and S_noise. Raises ValueError if amount < 0 or steps < 1.
    """
    if amount < 0 or steps < 1:
        raise ValueError(f"need amount >= 0 and steps >= 1, not {amount} and {steps}")
    gamma_inside = min(amount / steps, 2**0.5 - 1)

    def step(key, x, memory, score, sigma, sigma_next):
        inside = (sigma >= sigma_min) & (sigma <= sigma_max)
        gamma = jnp.where(inside, gamma_inside, 0.0)
        added = sigma * jnp.sqrt(gamma * (2 + gamma))
        z = noise.normal(noise.fold_in(key, 0), x.shape, x.dtype)
        x = x + noise_scale * added * z
        inner = noise.fold_in(key, 1)
        return sampler.step(inner, x, memory, score, sigma * (1 + gamma), sigma_next)

    return Sampler(sampler.init, step)


def denoise_last() -> Sampler:
    """x + sigma^2 s(x, sigma) on the step to sigma_next = 0, nothing on the others.

    The final denoising of annealed Langevin dynamics, as the last member of a chain (Song & Ermon
    2020, section 4; Jolicoeur-Martineau et al. 2021).
    """

    def move(key, x, score, sigma, sigma_next):
        del key  # deterministic
        return jax.lax.cond(
            sigma_next > 0,
            lambda x: x,
            lambda x: x + sigma**2 * at(score, x, sigma),
            x,
        )

    return memoryless(move)


def at(score: ScoreFn, x: Batch, sigma: Scalar) -> Batch:
    """score(x, sigma) with one noise level for the whole batch."""
    return score(x, jnp.full(x.shape[:1], sigma, x.dtype))

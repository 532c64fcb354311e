"""What a sampler is, how samplers compose, and the one loop that runs them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxscore import noise
from jaxscore.samplers.prior import Moments, start
from jaxscore.types import Array, Key, ScoreFn, right, shaped, wide

Batch = Float[Array, "b *event"]
Scalar = Float[Array, ""]
Memory = Any


class Sampler(NamedTuple):
    """A pair of pure functions:

        init(x) -> memory
        step(key, x, memory, score, sigma, sigma_next) -> (x, memory)

    The step takes x[b, ...] from the scalar noise level sigma to the scalar sigma_next. `key` is one key
    for each row, or one for all rows. The memory is any pytree; most samplers have none, ().
    """

    init: Callable[[Array], Memory]
    step: Callable[[Key, Array, Memory, ScoreFn, Array, Array], tuple[Array, Memory]]
    order: int = 1
    """Evaluations that a multistep solver combines; it needs as many levels."""


def memoryless(move: Callable[[Key, Array, ScoreFn, Array, Array], Array]) -> Sampler:
    """Returns the sampler without memory whose step is move(key, x, score, sigma, sigma_next) -> x."""

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
    """Takes x along sigmas[0] >= sigmas[1] >= ... by the sampler's step, in one `lax.scan`.

    Returns the last x, and `collect(x, memory)` after every step, stacked along a new first axis (None
    without `collect`: the memory used is then constant in the number of steps). Row i of the result
    depends on row i of x and on (key, i) alone. If the batch is a part of a larger one, pass an array of
    keys, one for each row (see `noise.row_keys`).

    The result has the type of x, or is float32 if x has integers. The steps are computed in float32, or in
    the type of x if that is wider.

    Raises ValueError if the levels go up, or are not finite; if only the last may be zero and another is; if
    they are fewer than a multistep solver's order; and when the score has another shape than x. Inside jit
    the values of traced levels are not known: if they are wrong, all samples are NaN. Raises TypeError if the
    sampler is none.
    """
    if not isinstance(sampler, Sampler):
        raise TypeError(f"the sampler is {sampler!r}; call its function, as in samplers.heun()")
    keys, score = noise.row_keys(key, x.shape[0]), shaped(score)
    narrow = x.dtype if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.float32
    x = wide(x)
    sigmas = checked(sigmas).astype(x.dtype)
    if len(sigmas) - 1 < sampler.order:
        few = f"{len(sigmas) - 1} levels are too few for a sampler of order {sampler.order}"
        raise ValueError(f"{few}; give it a lower order, or more levels")

    def body(carry, inputs):
        x, memory = carry
        number, sigma, sigma_next = inputs
        x, memory = sampler.step(noise.fold_in(keys, number), x, memory, score, sigma, sigma_next)
        return (x, memory), collect(x.astype(narrow), memory) if collect else None

    steps = (jnp.arange(len(sigmas) - 1), sigmas[:-1], sigmas[1:])
    (x, _), collected = jax.lax.scan(body, (x, sampler.init(x)), steps)
    return x.astype(narrow), collected


def checked(sigmas: Array, *, to_zero: bool = False) -> Array:
    """Returns the levels. Raises ValueError for a wrong shape, and for wrong values that are known."""
    if callable(sigmas):
        raise ValueError("sigmas is a schedule; the levels are noise.levels(schedule, n)")
    if jnp.ndim(sigmas) != 1 or len(sigmas) < 2:
        raise ValueError(f"sigmas has shape {jnp.shape(sigmas)}; it must be [n + 1], for at least one step")
    if not isinstance(sigmas, jax.core.Tracer):
        known = np.asarray(sigmas, np.float64)
        fine = np.isfinite(known).all() and (known[:-1] > 0).all() and (np.diff(known) <= 0).all()
        if not fine or known[-1] < 0:
            raise ValueError(f"sigmas = {_brief(known)} must be finite and positive, and must not go up")
        if to_zero and known[-1] > 0:
            raise ValueError(f"sigmas = {_brief(known)} must end in zero, as those of noise.levels do")
        return jnp.asarray(sigmas)
    fine = jnp.isfinite(sigmas).all() & (sigmas[:-1] > 0).all() & (jnp.diff(sigmas) <= 0).all()
    return jnp.where(fine & (sigmas[-1] == 0 if to_zero else sigmas[-1] >= 0), sigmas, jnp.nan)


def _brief(values: np.ndarray) -> str:
    return np.array2string(values, precision=4, threshold=8, separator=", ").replace("\n", "")


def generate(
    key: Key,
    shape: tuple[int, ...],
    sigmas: Float[Array, "n_plus_1"],
    score: ScoreFn,
    sampler: Sampler,
    *,
    moments: Moments | None = None,
) -> Batch:
    """Draws samples [b, *event]: `prior` at sigmas[0], then `sample` along the levels.

    Sample i depends on (key, i) alone, or on key[i]. Raises ValueError as `sample` and `prior` do, and if the
    levels do not end in zero: noise of the last level would be left in the samples.

    Args:
        key: one key, or an array of b keys, one for each sample.
        shape: [b, *event] with one key; the event alone with an array of keys.
        sigmas: the levels sigma_1 > ... > sigma_n > 0, as `noise.levels` makes them.
        score: the score, with parameters and condition bound.
        sampler: any sampler of `jaxscore.samplers`.
        moments: of the data, for a better start; see `prior`.
    """
    sigmas, key = checked(sigmas, to_zero=True), noise.typed(key)
    x = start(key, shape, sigmas[0], moments)
    return sample(noise.fold_in(noise.row_keys(key, len(x)), 1), x, sigmas, score, sampler)[0]


def evaluations(sampler: Sampler, sigmas: int | Float[Array, "n_plus_1"]) -> int:
    """Counts the evaluations of the score by the sampler, from sigma_1 to sigma = 0.

    Args:
        sampler: runs once, on one number, with a score that counts its calls.
        sigmas: the levels, or their number n without the zero at the end. The levels are needed for samplers
            such as `restart`, whose steps are not all alike.

    Raises ValueError if n < 2, and inside jit.
    """
    if jnp.ndim(sigmas) == 0:
        if sigmas < 2:
            raise ValueError(f"n = {sigmas} levels: at least 2 are needed")
        sigmas = jnp.append(jnp.linspace(2.0, 1.0, sigmas), 0.0)
    calls = []

    def score(x, sigma):
        jax.debug.callback(lambda: calls.append(1))
        return -x / right(1 + sigma**2, x)

    if isinstance(sigmas, jax.core.Tracer):
        raise ValueError("evaluations are counted by running the sampler: call this outside of jit")
    x, _ = sample(jax.random.key(0), jnp.ones((1, 1)), sigmas, score, sampler)
    jax.block_until_ready(x)
    jax.effects_barrier()
    return len(calls)


def chain(*samplers: Sampler) -> Sampler:
    """Returns the sampler whose step is a step of each sampler in turn, at the same sigma and sigma_next.

    `chain(langevin(...), heun())` is predictor-corrector sampling (Song et al. 2021, algorithm 1): the
    corrector at sigma comes first, then the predictor to sigma_next. The other order corrects at the
    sigma that the predictor has just left, and is measurably worse.

    Raises ValueError if no sampler is given: x would never change.
    """
    if not samplers:
        raise ValueError("chain() needs at least one sampler")

    def init(x):
        return tuple(sampler.init(x) for sampler in samplers)

    def step(key, x, memory, score, sigma, sigma_next):
        after = []
        for number, (sampler, before) in enumerate(zip(samplers, memory, strict=True)):
            part = noise.fold_in(key, number)
            x, now = sampler.step(part, x, before, score, sigma, sigma_next)
            after.append(now)
        return x, tuple(after)

    return Sampler(init, step, max(sampler.order for sampler in samplers))


def repeat(sampler: Sampler, times: int) -> Sampler:
    """Returns the sampler whose step is `times` steps of the given one at the same sigma.

    `repeat(langevin(...), T)` is annealed Langevin dynamics (Song & Ermon 2019, algorithm 1). Only for
    samplers that stay at sigma: a step that has already gone to sigma_next cannot be repeated. Raises
    ValueError if times < 1.
    """
    if times < 1:
        raise ValueError(f"times = {times} must be at least 1")

    def step(key, x, memory, score, sigma, sigma_next):
        def body(number, carry):
            x, memory = carry
            return sampler.step(noise.fold_in(key, number), x, memory, score, sigma, sigma_next)

        return jax.lax.fori_loop(0, times, body, (x, memory))

    return Sampler(sampler.init, step, sampler.order)


def churn(
    amount: float,
    sampler: Sampler,
    *,
    steps: int,
    sigma_min: float = 0.0,
    sigma_max: float = float("inf"),
    noise_scale: float = 1.0,
) -> Sampler:
    """Returns the sampler that raises the noise to sigma_hat = (1 + gamma) sigma, and steps from there.

    gamma = min(amount / steps, sqrt(2) - 1) where sigma_min <= sigma <= sigma_max, else 0. The noise
    added is N(0, noise_scale^2 (sigma_hat^2 - sigma^2) I). With `heun()` it is the stochastic sampler of
    Karras et al. 2022, algorithm 2.

    Args:
        amount: S_churn of the paper.
        sampler: takes the step from sigma_hat to sigma_next.
        steps: N of the paper, the number of steps.
        sigma_min, sigma_max: S_tmin and S_tmax, between which noise is added.
        noise_scale: S_noise.

    Raises ValueError if amount < 0 or steps < 1.
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

    return Sampler(sampler.init, step, sampler.order)


def denoise_last() -> Sampler:
    """x <- x + sigma^2 s(x, sigma) on the step to sigma_next = 0; other steps leave x as it is.

    The final denoising of annealed Langevin dynamics, as the last member of a chain (Song & Ermon 2020,
    section 4; Jolicoeur-Martineau et al. 2021).
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

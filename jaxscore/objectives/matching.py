"""The objectives of score matching, and their estimates of the trace."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore import noise
from jaxscore.objectives.weights import Weight, one, sigma_squared
from jaxscore.types import Array, Key, ScoreFn, Sigma, per_row, right, shaped, wide

Batch = Float[Array, "b *event"]
Levels = Float[Array, "b"]
Loss = Float[Array, "b"]
Objective = Callable[[ScoreFn, Key, Array, Array], Array]
Draw = Callable[[Key, tuple[int, ...]], Array]


# Objectives that see the density's own points ---------------------------------------------------


def explicit(truth: ScoreFn) -> Objective:
    """1/2 |s(x, sigma) - truth(x, sigma)|^2, x ~ p_sigma (Hyvarinen 2005, equation 2).

    Takes the true score and returns the objective; for densities whose score is known.
    """
    truth = shaped(truth, "true score")

    def objective(score: ScoreFn, key: Key, x: Batch, sigma: Sigma) -> Loss:
        del key  # deterministic
        score, x, sigma = _given(score, x, sigma)
        return _half_square(score(x, sigma) - truth(x, sigma))

    return objective


def implicit(score: ScoreFn, key: Key, x: Batch, sigma: Sigma, *, chunk: int = 64) -> Loss:
    """1/2 |s(x, sigma)|^2 + tr ds/dx, x ~ p_sigma, with the exact trace (Hyvarinen 2005, eq. 4).

    Differs from `explicit` by a constant that no parameter enters. The trace costs D forward-mode
    products for events of D numbers; `chunk` of them are in memory at once, in the gradient too,
    for which larger events compute each of them twice. Raises ValueError if chunk < 1.
    """
    del key  # deterministic
    if chunk < 1:
        raise ValueError(f"chunk = {chunk} must be at least 1")
    score, x, sigma = _given(score, x, sigma)
    return _half_square(score(x, sigma)) + trace(lambda x: score(x, sigma), x, chunk)


def sliced(
    score: ScoreFn, key: Key, x: Batch, sigma: Sigma, *, probes: int = 1, draw: Draw = noise.rademacher
) -> Loss:
    """mean over K probes v of v' (ds/dx) v + 1/2 (v' s)^2, x ~ p_sigma (Song et al. 2019, eq. 8).

    Unbiased for `implicit` when E[v v'] = I, as for noise.rademacher, noise.normal and noise.sphere. Raises
    ValueError if probes < 1.
    """
    score, x, sigma = _given(score, x, sigma)

    def estimate(v: Batch) -> Loss:
        s, slope = jax.jvp(lambda x: score(x, sigma), (x,), (v,))
        return _dot(v, slope) + _dot(v, s) ** 2 / 2

    return _average_over_probes(estimate, key, x, probes, draw)


def sliced_variance_reduced(
    score: ScoreFn, key: Key, x: Batch, sigma: Sigma, *, probes: int = 1, draw: Draw = noise.rademacher
) -> Loss:
    """mean over K probes v of v' (ds/dx) v, plus 1/2 |s|^2, x ~ p_sigma (Song et al. 2019, eq. 9).

    `sliced` with its second term integrated in closed form; valid when E[v v'] = I. The trace is
    Hutchinson's estimate. Raises ValueError if probes < 1.
    """
    score, x, sigma = _given(score, x, sigma)

    def estimate(v: Batch) -> Loss:
        s, slope = jax.jvp(lambda x: score(x, sigma), (x,), (v,))
        return _dot(v, slope) + _half_square(s)

    return _average_over_probes(estimate, key, x, probes, draw)


def finite_difference(
    score: ScoreFn,
    key: Key,
    x: Batch,
    sigma: Sigma,
    *,
    step: float | Array = 1e-2,
    probes: int = 1,
    draw: Draw = noise.rademacher,
) -> Loss:
    """mean over K probes v of v' (s(x + h v) - s(x - h v)) / 2h + 1/2 |(s(x + h v) + s(x - h v)) / 2|^2.

    `sliced_variance_reduced` up to O(h^2), with two evaluations for each probe and no derivative of the score
    (Pang et al. 2020, who difference the energy itself). `step` is h, one number or [b], in units of x. It
    should be far below sigma. Rounding limits it to 1e-3 of x in float32, and 0.1 for a bfloat16 network.
    Raises ValueError if probes < 1 or a number h is not positive.
    """
    if isinstance(step, float | int) and step <= 0:
        raise ValueError(f"step = {step} must be positive")
    score, x, sigma = _given(score, x, sigma)
    h = right(per_row(step, x, "step"), x)

    def estimate(v: Batch) -> Loss:
        behind, ahead = jax.vmap(lambda sign: score(x + sign * h * v, sigma))(jnp.array([-1.0, 1.0], x.dtype))
        return _dot(v, (ahead - behind) / (2 * h)) + _half_square((ahead + behind) / 2)

    return _average_over_probes(estimate, key, x, probes, draw)


# Objectives that add the noise themselves -------------------------------------------------------


def denoising(score: ScoreFn, key: Key, x: Batch, sigma: Sigma) -> Loss:
    """1/2 |s(x + sigma n, sigma) + n / sigma|^2, x clean, n ~ N(0, I) (Vincent 2011, equation 9).

    Differs from `explicit` on p_sigma by a constant that no parameter enters. It is for one noise level. Over
    several use `noise_conditional`, or the smallest sigma drowns the others.
    """
    return noise_conditional(score, key, x, sigma, weight=one)


def noise_conditional(
    score: ScoreFn, key: Key, x: Batch, sigma: Sigma, *, weight: Weight = sigma_squared
) -> Loss:
    """1/2 lambda(sigma) |s(x + sigma n, sigma) + n / sigma|^2, x clean (Song & Ermon 2019, eq. 5-6).

    It is computed as 1/2 lambda / sigma^2 |sigma s + n|^2, which stays finite at small sigma.
    """
    score, x, sigma = _given(score, x, sigma)
    n = noise.normal(key, x.shape, x.dtype)
    s = right(sigma, x)
    return per_row(weight(sigma), x, "weight") / sigma**2 * _half_square(s * score(x + s * n, sigma) + n)


# Helpers --------------------------------------------------------------------------------------


def _given(score: ScoreFn, x: Batch, sigma: Sigma) -> tuple[ScoreFn, Batch, Levels]:
    """Returns the checked arguments of an objective: x in float32 or wider, a noise level for each row."""
    x = wide(x)
    return shaped(score), x, per_row(sigma, x)


def _dot(a: Batch, b: Batch) -> Loss:
    return jnp.sum(a * b, axis=tuple(range(1, a.ndim)))


def _half_square(a: Batch) -> Loss:
    return _dot(a, a) / 2


def _average_over_probes(
    estimate: Callable[[Batch], Loss], key: Key, x: Batch, probes: int, draw: Draw
) -> Loss:
    if probes < 1:
        raise ValueError(f"probes = {probes} must be at least 1")
    one = lambda number: estimate(draw(noise.fold_in(key, number), x.shape).astype(x.dtype))
    return jnp.mean(jax.vmap(one)(jnp.arange(probes)), axis=0)


def trace(field: Callable[[Batch], Batch], x: Batch, chunk: int) -> Loss:
    """tr d field / dx of each example, by one forward-mode product per coordinate of the event."""
    size = x[0].size

    def diagonal(coordinate: Array) -> Loss:
        basis = jax.nn.one_hot(coordinate, size, dtype=x.dtype).reshape(x.shape[1:])
        basis = jnp.broadcast_to(basis[None], x.shape)
        _, slope = jax.jvp(field, (x,), (basis,))
        return _dot(basis, slope)

    if size <= chunk:
        return jnp.sum(jax.vmap(diagonal)(jnp.arange(size)), axis=0)
    # Recomputed in the gradient: otherwise the activations of all D products would be kept for it.
    diagonal = jax.checkpoint(diagonal)
    return jnp.sum(jax.lax.map(diagonal, jnp.arange(size), batch_size=chunk), axis=0)

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
>>> over_levels(noise_conditional, noise.lognormal(-1.2, 1.2))(exact, jax.random.key(2), x).shape
(8,)

Networks must be twice differentiable where a trace or a slice is taken: no derivative sees what the trace
of a ReLU network gains at its kinks (use SiLU, softplus or ELU; `diagnostics.kinked` finds such
networks). Batch normalisation couples the examples, which corrupts the trace.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore import noise
from jaxscore.types import Array, Key, Schedule, ScoreFn, Sigma, per_row, right, shaped, wide

Batch = Float[Array, "b *event"]
Levels = Float[Array, "b"]
Loss = Float[Array, "b"]
Objective = Callable[[ScoreFn, Key, Array, Array], Array]
Weight = Callable[[Array], Array]
Draw = Callable[[Key, tuple[int, ...]], Array]


# Weights --------------------------------------------------------------------------------------


def one(sigma: Levels) -> Levels:
    """lambda(sigma) = 1: the squared error of the score itself (Vincent 2011)."""
    return jnp.ones_like(sigma)


def sigma_squared(sigma: Levels) -> Levels:
    """lambda(sigma) = sigma^2: every level's loss of the same order (Song & Ermon 2019, section 4.2)."""
    return sigma**2


def edm(sigma_data: float) -> Weight:
    """lambda(sigma) = sigma^2 (1 + sigma^2 / sigma_data^2), the weight of Karras et al. 2022.

    Their (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 |D(x) - x0|^2 (table 1), for the score, times 1/2:
    with `preconditioned`, the network's output has unit weight. Raises ValueError unless sigma_data > 0.
    """
    if sigma_data <= 0:
        raise ValueError(f"sigma_data = {sigma_data} must be positive")
    return lambda sigma: sigma**2 * (1 + (sigma / sigma_data) ** 2)


def likelihood(density: Levels) -> Weight:
    """lambda(sigma) = 2 sigma / q(sigma), q the density that each sigma was drawn from.

    Whatever q, the mean of noise_conditional is then int sigma E|s + n / sigma|^2 dsigma, which up to
    a constant bounds the negative log likelihood, in nats (Song, Durkan et al. 2021, theorem 1,
    whose g(t)^2 dt is 2 sigma dsigma here, for every Gaussian process). q decides the variance;
    their importance sampling, p(t) ~ g(t)^2 / std(t)^2, is sigma uniform in its logarithm:

        u = noise.stratified(key, n)
        schedule = noise.geometric(sigma_min, sigma_max)
        weight = likelihood(noise.density(schedule, u))     # 2 sigma^2 ln(sigma_max / sigma_min)
        losses = noise_conditional(score, key, x, schedule(u), weight=weight)
    """
    return lambda sigma: 2 * sigma / density


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
    return _half_square(score(x, sigma)) + _trace(lambda x: score(x, sigma), x, chunk)


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


# Over noise levels ------------------------------------------------------------------------------


def over_levels(objective: Objective, schedule: Schedule, *, weight: Weight | None = None) -> Callable:
    """Returns losses(score, key, x) -> [b]: the objective at noise levels drawn from the schedule.

    The levels are schedule(u) with u stratified over the batch (`noise.stratified`). For the noise levels
    too, call losses(score, key, x, with_sigma=True) -> ([b], [b]); `diagnostics.by_sigma` takes both.

    Args:
        objective: any objective of this module; `noise_conditional` is given clean x.
        schedule: the training distribution of sigma, as a quantile function (see `noise`).
        weight: lambda(sigma), which replaces the weight sigma^2 of `noise_conditional`, and multiplies
            the loss of any other objective; None leaves the objective as it is.
    """

    def losses(score: ScoreFn, key: Key, x: Batch, *, with_sigma: bool = False):
        (key_sigma, key_noise), x = jax.random.split(key), wide(x)
        sigma = per_row(schedule(noise.stratified(key_sigma, len(x))), x)
        if weight is None:
            loss = objective(score, key_noise, x, sigma)
        elif objective is noise_conditional:
            loss = noise_conditional(score, key_noise, x, sigma, weight=weight)
        else:
            loss = per_row(weight(sigma), x, "weight") * objective(score, key_noise, x, sigma)
        return (loss, sigma) if with_sigma else loss

    return losses


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


def _trace(field: Callable[[Batch], Batch], x: Batch, chunk: int) -> Loss:
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

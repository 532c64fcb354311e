"""Diagnostics: what a score, and its training, look like at every noise level.

Pure functions of a score, to be called between steps or on a trained model:

    by_sigma         the loss in each bin of noise levels
    gradient_noise   the gradient, and its noise, in each bin of noise levels
    score_norm       |s| sigma / sqrt(D), which is 1 where the noise is all there is
    asymmetry        the share of the score's Jacobian that no log density has
    kinked           whether a network's derivatives miss its kinks, as a ReLU network's do

>>> import jax, jax.numpy as jnp
>>> exact = lambda x, sigma: -x / (1 + sigma[:, None] ** 2)            # x0 ~ N(0, I)
>>> x, sigma = jax.random.normal(jax.random.key(0), (8, 2)), jnp.full(8, 0.5)
>>> float(asymmetry(exact, jax.random.key(1), x, sigma).max())
0.0
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore import noise
from jaxscore.types import AnyArray, Array, Key, Params, ScoreFn

Batch = Float[Array, "b *event"]
Sigma = Float[Array, "b"]
PerExample = Float[Array, "b"]
Edges = tuple[float, ...] | Float[AnyArray, "k"]


# Training, by noise level ---------------------------------------------------------------------


def by_sigma(loss: PerExample, sigma: Sigma, edges: Edges) -> dict[str, Float[Array, "_"]]:
    """Returns sums (`total`) and counts of the loss in the len(edges) + 1 bins between edges of sigma.

    Sums and counts of several batches, devices or steps add up; the mean loss of a bin is total / count.
    `edges` are returned too, for whoever draws the bins.
    """
    members = _members(sigma, edges, loss.dtype)
    edges = jnp.asarray(edges, loss.dtype)
    return {"total": members @ loss, "count": members.sum(axis=1), "edges": edges}


def gradient_noise(
    losses: Callable[[Params, Key, Array, Array], Array],
    params: Params,
    key: Key,
    x: Batch,
    sigma: Sigma,
    edges: Edges,
) -> dict[str, Float[Array, "k_plus_1"]]:
    """Size and noise of the loss's gradient in the parameters, in each bin of noise levels.

    losses(params, keys[b], x[b, ...], sigma[b]) -> [b], an objective with its score bound. Returns
    `count`; `loss`, the mean; `signal` = |E g|^2 and `noise` = E|g - E g|^2 over the bin's examples,
    g being one example's gradient, both estimated without bias. noise / signal is the batch size at
    which the two are equal (McCandlish et al. 2018, the simple noise scale). Bins with fewer than two
    examples have NaN. One backward pass and one sum of gradients per example: for looking, not
    for every step.
    """
    keys = noise.row_keys(key, x.shape[0])
    members = _members(sigma, edges, x.dtype)

    def one(params: Params, key: Key, x: Array, sigma: Array) -> Array:
        return losses(params, key[None], x[None], sigma[None])[0]

    def body(sums, row):
        key, x, sigma, member = row
        loss, gradient = jax.value_and_grad(one)(params, key, x, sigma)
        square = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient))
        total, squares, vector = sums
        spread = lambda leaf: member.reshape(-1, *(1,) * leaf.ndim) * leaf[None]
        vector = jax.tree.map(lambda a, leaf: a + spread(leaf), vector, gradient)
        return (total + member * loss, squares + member * square, vector), None

    bins, zeros = len(edges) + 1, jnp.zeros(len(edges) + 1, x.dtype)
    vector = jax.tree.map(lambda leaf: jnp.zeros((bins, *leaf.shape), x.dtype), params)
    (total, squares, vector), _ = jax.lax.scan(body, (zeros, zeros, vector), (keys, x, sigma, members.T))
    n = members.sum(axis=1)
    of_mean = sum(jnp.sum((leaf**2).reshape(bins, -1), axis=1) for leaf in jax.tree.leaves(vector)) / n**2
    scatter = jnp.where(n > 1, (squares / n - of_mean) * n / (n - 1), jnp.nan)
    return {"count": n, "loss": total / n, "signal": of_mean - scatter / n, "noise": scatter}


# The score as a field -------------------------------------------------------------------------


def score_norm(score: ScoreFn, x: Batch, sigma: Sigma) -> PerExample:
    """|s(x, sigma)| sigma / sqrt(D): near 1 where p_sigma is all noise, below 1 where data shape it.

    The observation behind lambda = sigma^2 (Song & Ermon 2019, section 4.2: |s| is of order 1 / sigma).
    """
    s = score(x, sigma).reshape(x.shape[0], -1)
    return jnp.linalg.norm(s, axis=1) * sigma / jnp.sqrt(s.shape[1])


def asymmetry(score: ScoreFn, key: Key, x: Batch, sigma: Sigma, *, probes: int = 8) -> PerExample:
    """|J - J'| / 2|J| in the Frobenius norm, J = ds/dx at each x: 0 for the gradient of a log density.

    J splits into a symmetric and an antisymmetric part; this is the share of the second, up to 1
    for a pure rotation. Estimated by K probes v, from E|(J - J') v|^2 = |J - J'|^2. Raises ValueError
    if probes < 1.
    """
    if probes < 1:
        raise ValueError(f"probes = {probes} must be at least 1")
    field = lambda x: score(x, sigma)
    _, pull = jax.vjp(field, x)

    def one(number: Array) -> tuple[PerExample, PerExample]:
        v = noise.rademacher(noise.fold_in(key, number), x.shape).astype(x.dtype)
        _, ahead = jax.jvp(field, (x,), (v,))
        (back,) = pull(v)
        return _square(ahead - back), _square(ahead)

    difference, whole = jax.lax.map(one, jnp.arange(probes))
    return jnp.sqrt(difference.sum(axis=0) / whole.sum(axis=0)) / 2


def kinked(score: ScoreFn, key: Key, x: Batch, sigma: Sigma, *, points: int = 64) -> Array:
    """Whether the score's slope jumps at kinks that its second derivative misses, as a ReLU network's does.

    Along segments x + t sigma v, v ~ N(0, I), 0 <= t <= 1, the change of the slope (ds/dx) v is held
    against the integral of its derivative, by the midpoint rule on `points` points; they are equal for any
    score that is smooth, or has jumps in the second derivative only (ELU). True if they differ by more
    than 30 % of the change, over the batch. Then the objectives with a trace or a slice cannot
    train the score: their gradient leaves out what moving the kinks would do. A scalar bool.
    """
    v = noise.normal(key, x.shape, x.dtype) * sigma.reshape(-1, *(1,) * (x.ndim - 1))
    slope = lambda x: jax.jvp(lambda x: score(x, sigma), (x,), (v,))[1]

    def add(total, t):
        return total + jax.jvp(slope, (x + t * v,), (v,))[1] / points, None

    integral, _ = jax.lax.scan(add, jnp.zeros_like(x), (jnp.arange(points, dtype=x.dtype) + 0.5) / points)
    before, after = slope(x), slope(x + v)
    change, missed = _square(after - before).sum(), _square(after - before - integral).sum()
    # A linear score has no change but rounding, in which nothing can be found.
    return (missed > 0.3**2 * change) & (change > 1e-8 * _square(before).sum())


# Helpers --------------------------------------------------------------------------------------


def _members(sigma: Sigma, edges: Edges, dtype) -> Float[Array, "k_plus_1 b"]:
    bins = jnp.searchsorted(jnp.asarray(edges, sigma.dtype), sigma)
    return jax.nn.one_hot(bins, len(edges) + 1, dtype=dtype, axis=0)


def _square(a: Batch) -> PerExample:
    return jnp.sum(a**2, axis=tuple(range(1, a.ndim)))

"""Diagnostics of a score and of its training, at every noise level.

All are pure functions of a score, to be called between steps or on a trained model:

    by_sigma         the loss in each bin of noise levels
    gradient_noise   the gradient and its noise, in each bin of noise levels
    score_norm       |s| sigma / sqrt(D), which is 1 where x is pure noise
    asymmetry        the fraction of the score's Jacobian that no log density can have
    kinked           whether a network's derivatives miss its kinks, as in a ReLU network

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
from jaxscore.types import AnyArray, Array, Key, Params, ScoreFn, Sigma, per_row, right, shaped, wide

Batch = Float[Array, "b *event"]
PerExample = Float[Array, "b"]
Edges = tuple[float, ...] | Float[AnyArray, "k"]


# Training, by noise level ---------------------------------------------------------------------


def by_sigma(loss: PerExample, sigma: Sigma, edges: Edges) -> dict[str, Float[Array, "_"]]:
    """Returns sums (`total`) and counts of the loss in the len(edges) + 1 bins between edges of sigma.

    Sums and counts of several batches, devices or steps add up; the mean loss of a bin is total / count.
    `edges` are returned too, for whoever draws the bins.
    """
    loss = wide(loss)
    members = _members(per_row(sigma, loss), edges, loss.dtype)
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
    """Signal and noise of the loss's gradient with respect to the parameters, in each bin of noise levels.

    Returns a dict with one value per bin:

        count     number of examples
        loss      mean loss
        signal    |E g|^2, g being the gradient of one example
        noise     E|g - E g|^2

    `signal` and `noise` are unbiased estimates. noise / signal is the batch size at which both are equal
    (McCandlish et al. 2018, the simple noise scale). Bins with fewer than two examples have nan. Each example
    costs a backward pass, so this is for inspection, not for every step.

    Args:
        losses: losses(params, keys[b], x[b, ...], sigma[b]) -> [b], an objective with its score bound.
        params: parameters.
        key: one key, or one key per row.
        x: clean examples [b, ...].
        sigma: noise levels [b].
        edges: increasing edges of the bins.
    """
    keys, x = noise.row_keys(key, x.shape[0]), wide(x)
    sigma = per_row(sigma, x)
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
    """`|s(x, sigma)| sigma / sqrt(D)`: near 1 where p_sigma is mostly noise, less where the data shape it.

    This is the observation behind lambda = sigma^2: `|s|` is of order 1 / sigma (Song & Ermon 2019, section
    4.2).
    """
    x = wide(x)
    sigma = per_row(sigma, x)
    s = shaped(score)(x, sigma).reshape(x.shape[0], -1)
    return jnp.linalg.norm(s, axis=1) * sigma / jnp.sqrt(s.shape[1])


def asymmetry(score: ScoreFn, key: Key, x: Batch, sigma: Sigma, *, probes: int = 8) -> PerExample:
    """Antisymmetric fraction of the Jacobian J = ds/dx at each x: 0 for the gradient of a log density.

        |J - J'| / 2|J|    in the Frobenius norm

    It reaches 1 for a pure rotation. It is estimated with `probes` random v, from `E|(J - J') v|^2 = |J -
    J'|^2`.

    Args:
        score: score function.
        key: one key, or one key per row.
        x: points [b, ...].
        sigma: noise levels [b].
        probes: number of probes.

    Raises:
        ValueError: if probes < 1.
    """
    if probes < 1:
        raise ValueError(f"probes = {probes} must be at least 1")
    x, score = wide(x), shaped(score)
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
    """Whether the score's slope jumps at kinks that its second derivative misses, as in a ReLU network.

    Compares two values along segments x + t sigma v, with v ~ N(0, I) and 0 <= t <= 1. One is the change of
    the slope (ds/dx) v, the other the integral of its derivative by the midpoint rule. They are equal if the
    score is smooth, or if only its second derivative jumps (ELU). The result is True if they differ by more
    than 30 % of the change, over the batch.

    Objectives with a trace or a slice cannot train a kinked score, because their gradient leaves out the
    effect of moving the kinks.

    Args:
        score: score function.
        key: one key, or one key per row.
        x: points [b, ...].
        sigma: noise levels [b].
        points: number of points of the midpoint rule.

    Returns:
        A scalar bool.
    """
    x, score = wide(x), shaped(score)
    v = noise.normal(key, x.shape, x.dtype) * right(per_row(sigma, x), x)
    slope = lambda x: jax.jvp(lambda x: score(x, sigma), (x,), (v,))[1]

    def add(total, t):
        return total + jax.jvp(slope, (x + t * v,), (v,))[1] / points, None

    integral, _ = jax.lax.scan(add, jnp.zeros_like(x), (jnp.arange(points, dtype=x.dtype) + 0.5) / points)
    before, after = slope(x), slope(x + v)
    change, missed = _square(after - before).sum(), _square(after - before - integral).sum()
    # The change of a linear score is rounding, which says nothing.
    return (missed > 0.3**2 * change) & (change > 1e-8 * _square(before).sum())


# Helpers --------------------------------------------------------------------------------------


def _members(sigma: Sigma, edges: Edges, dtype) -> Float[Array, "k_plus_1 b"]:
    bins = jnp.searchsorted(jnp.asarray(edges, sigma.dtype), sigma)
    return jax.nn.one_hot(bins, len(edges) + 1, dtype=dtype, axis=0)


def _square(a: Batch) -> PerExample:
    return jnp.sum(a**2, axis=tuple(range(1, a.ndim)))

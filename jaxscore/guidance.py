"""Conditions: how they are dropped in training, and how they guide sampling.

One network learns the conditional and the unconditional score, because training drops the condition of some
examples. Sampling then extrapolates from the second score to the first (Ho & Salimans 2022):

>>> import jax, jax.numpy as jnp
>>> labels = jnp.arange(8) % 4
>>> dropped = drop(jax.random.key(0), labels, none=4, probability=0.5)
>>> dropped.tolist()
[0, 4, 2, 4, 4, 1, 2, 4]
>>> conditional, unconditional = lambda x, sigma: -2 * x, lambda x, sigma: -x
>>> guided = classifier_free(conditional, unconditional, scale=3.0)
>>> float(guided(jnp.ones((1, 2)), jnp.ones(1))[0, 0])
-4.0
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxscore import noise
from jaxscore.score import from_log_density
from jaxscore.types import Array, Condition, Key, ScoreFn, per_row, right, shaped


def drop(key: Key, condition: Condition, *, none: Condition, probability: float) -> Condition:
    """Returns the condition with each row replaced by `none` with the given probability, independently.

    For training only. Whether row i is dropped depends on the key and on i alone. The rows of all leaves of
    the condition are dropped together.

    Args:
        key: one key, or an array of one key for each row.
        condition: any pytree of arrays with the rows first.
        none: what means "no condition": the number n_classes for class numbers, 0.0 for vectors and images
            that are centred. One number for all leaves, or a pytree like `condition`.
        probability: 0.1 is usual (Ho & Salimans 2022, section 5).

    Raises ValueError unless 0 <= probability <= 1, all leaves have the same rows, and `none` has the type of
    its leaf: 0.5 is no class number.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability = {probability} must lie in 0..1")
    leaves, structure = jax.tree.flatten(condition)
    rows = {len(leaf) for leaf in leaves}
    if len(rows) != 1:
        raise ValueError(f"the leaves of the condition have {sorted(rows)} rows; all need the same number")
    nones = jax.tree.leaves(none) if jax.tree.structure(none) == structure else [none] * len(leaves)
    for leaf, value in zip(leaves, nones, strict=True):
        if not jnp.can_cast(jnp.result_type(value), leaf.dtype, "same_kind"):
            raise ValueError(f"none = {value} is no value of a condition of {leaf.dtype}")
    uniform = jax.vmap(jax.random.uniform)(noise.row_keys(key, len(leaves[0])))
    dropped = uniform < probability
    replace = lambda leaf, value: jnp.where(right(dropped, leaf), jnp.asarray(value, leaf.dtype), leaf)
    return jax.tree.unflatten(structure, map(replace, leaves, nones))


def classifier_free(
    conditional: ScoreFn,
    unconditional: ScoreFn,
    scale: float | Array,
    interval: tuple[float, float] | None = None,
) -> ScoreFn:
    """s = s_c + (w - 1) (s_c - s_u): the guided score, s_c conditional and s_u unconditional.

    w = `scale` is one number, or one for each row. At 0 the score is s_u, at 1 exactly s_c, beyond 1 it is
    extrapolated (Ho & Salimans 2022, equation 6, where w is our w - 1). The guided score is that of
    p_c^w p_u^(1 - w) at each level, but sampling with it does not draw from that density.

    With an `interval` (low, high), the score is guided where low < sigma <= high, and exactly s_c
    elsewhere; where no row is inside, s_u is not evaluated (Kynkaanniemi et al. 2024). sigma is this
    library's noise level, for VP models too.

    `unconditional` may be any other score: of a smaller or less trained network with the same condition,
    it is autoguidance (Karras et al. 2024b).

    Raises ValueError unless low < high, and when a score has another shape than x.
    """
    low, high = (-jnp.inf, jnp.inf) if interval is None else interval
    if not low < high:
        raise ValueError(f"interval = {interval} must be (low, high) with low < high")

    conditional, unconditional = shaped(conditional), shaped(unconditional)

    def guided(x: Array, sigma: Array) -> Array:
        s, inside = conditional(x, sigma), (sigma > low) & (sigma <= high)
        weight = jnp.asarray(scale - 1, s.dtype)
        weight = right(per_row(weight, x, "scale"), x)
        added = lambda: jnp.where(right(inside, x), weight * (s - unconditional(x, sigma)), 0.0)
        return s + jax.lax.cond(inside.any(), added, lambda: jnp.zeros_like(s))

    return shaped(guided)


def by(
    score: ScoreFn, log_likelihood: Callable[[Array, Array], Array], scale: float | Array = 1.0
) -> ScoreFn:
    """s + scale grad_x log p(y | x, sigma): the score guided by a log likelihood of x at level sigma.

    log_likelihood(x[b, ...], sigma[b]) -> [b] may lack a constant of the level. With the true likelihood of y
    given the noisy x, and scale 1, the result is the score of the posterior. A classifier that was trained on
    noisy x gives the log probability of a class. Larger scales then give more typical examples of the class,
    but no draws from a density (Dhariwal & Nichol 2021, section 4).

    Raises ValueError if the log likelihood has not one number for each row.

    Source: Song et al. 2021, equation 14; Dhariwal & Nichol 2021, algorithm 1.
    """
    score, likelihood = shaped(score), from_log_density(log_likelihood)

    def guided(x: Array, sigma: Array) -> Array:
        weight = right(per_row(scale, x, "scale"), x)
        return score(x, sigma) + weight * likelihood(x, sigma)

    return shaped(guided)

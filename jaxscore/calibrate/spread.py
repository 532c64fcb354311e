"""Measurements of the data: how far apart two examples can be, and the standard deviation of their numbers.

    largest_distance             exact
    largest_distance_estimate    a lower bound, in a few passes over the data
    largest_distance_streamed    the same bound, for data that come in batches

>>> corners = jnp.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
>>> float(largest_distance(corners)), float(largest_distance_estimate(corners))
(5.0, 5.0)
"""

import math
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore.types import AnyArray, Array


def largest_distance(x: Float[AnyArray, "n *event"], *, block: int = 1024) -> Float[Array, ""]:
    """Largest Euclidean distance between two examples, exactly: sigma_1 of Song & Ermon 2020, technique 1.

        max_ij |x_i - x_j|

    Compares blocks of examples, the pair of blocks farthest from the mean first. Skips pairs of blocks that
    cannot hold a longer distance, because `|x_i - x_j| <= |x_i - mean| + |x_j - mean|`. Needs memory for
    three copies of x and block^2 numbers, and at most n^2 D operations. Works under jit and on arrays that
    are sharded over devices, but does not divide the work among the devices.

    Raises:
        ValueError: for fewer than 2 examples, or if block < 1.
    """
    n = len(x)
    if n < 2 or block < 1:
        raise ValueError(f"need at least 2 examples and block >= 1, not {n} and {block}")
    rows, block = jnp.asarray(x, jnp.float32).reshape(n, -1), min(block, n)
    # Rows are centred so that products lose no digits. Copies of the last row fill the last block.
    rows = rows - rows.mean(axis=0, keepdims=True)
    radius = jnp.linalg.norm(rows, axis=1)
    order, count = jnp.argsort(-radius), -(-n // block)
    rows = jnp.pad(rows[order], ((0, count * block - n), (0, 0)), "edge").reshape(count, block, -1)
    reach = radius[order][::block]
    pairs = sorted(((i, j) for i in range(count) for j in range(i, count)), key=sum)

    def visit(best, pair):
        a, b = rows[pair[0]], rows[pair[1]]
        skip = reach[pair[0]] + reach[pair[1]] <= best
        return jax.lax.cond(skip, lambda: best, lambda: jnp.maximum(best, _farthest(a, b))), None

    return jax.lax.scan(visit, jnp.zeros((), jnp.float32), jnp.array(pairs))[0]


def _farthest(a: Float[Array, "m d"], b: Float[Array, "m d"]) -> Float[Array, ""]:
    """Distance of the farthest pair, which is found by products and then measured by its difference."""
    products = jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.sum(a**2, axis=1)[:, None] + jnp.sum(b**2, axis=1)[None, :] - 2 * products
    i, j = jnp.unravel_index(jnp.argmax(squares), squares.shape)
    return jnp.linalg.norm(a[i] - b[j])


def largest_distance_estimate(x: Float[AnyArray, "n *event"], *, sweeps: int = 4) -> Float[Array, ""]:
    """Lower bound of the largest distance between two examples; at least half of the largest distance.

    Starts at the example farthest from the mean. Each sweep goes on to the example farthest from the current
    one, in n D operations. The result is the longest distance of `sweeps` sweeps. Divides the work among the
    devices that hold x.

    Raises:
        ValueError: for fewer than 2 examples, or if sweeps < 1.
    """
    if len(x) < 2 or sweeps < 1:
        raise ValueError(f"need at least 2 examples and sweeps >= 1, not {len(x)} and {sweeps}")
    x = jnp.asarray(x, jnp.float32)

    def sweep(carry, _):
        best, anchor = carry
        square, anchor = _farthest_from(anchor, x)
        return (jnp.maximum(best, jnp.sqrt(square)), anchor), None

    start = (jnp.zeros((), jnp.float32), _farthest_from(x.mean(axis=0), x)[1])
    return jax.lax.scan(sweep, start, length=sweeps)[0][0]


def largest_distance_streamed(batches: Callable[[], Iterable[AnyArray]], *, sweeps: int = 2) -> float:
    """`largest_distance_estimate` for examples that come in batches.

    Reads the data sweeps + 1 times: each call of `batches()` starts again at the first batch. The first pass
    starts at the mean of the first batch, not of all examples.

    Raises:
        ValueError: if there are no examples, or if sweeps < 1.
    """
    if sweeps < 1:
        raise ValueError(f"sweeps = {sweeps} must be at least 1")
    anchor, lengths = None, []
    for _ in range(sweeps + 1):
        square, farthest = -1.0, None
        for batch in batches():
            anchor = jnp.mean(jnp.asarray(batch), axis=0) if anchor is None else anchor
            found = _farthest_from(anchor, jnp.asarray(batch, jnp.float32))
            if float(found[0]) > square:
                square, farthest = float(found[0]), found[1]
        if farthest is None:
            raise ValueError("there are no examples")
        anchor = farthest
        lengths.append(math.sqrt(square))
    return max(lengths[1:])  # the first starts at a mean, which is no example


def _farthest_from(anchor: Float[Array, "*event"], x: Float[Array, "n *event"]) -> tuple[Array, Array]:
    """Squared distance from the anchor to the farthest example, and that example."""
    squares = jnp.sum((x - anchor[None]) ** 2, axis=tuple(range(1, x.ndim)))
    return squares.max(), x[squares.argmax()]


def sigma_data(x: Float[AnyArray, "n *event"]) -> Float[Array, ""]:
    """Standard deviation of all numbers in the data about their common mean (Karras et al. 2022)."""
    x = jnp.asarray(x, jnp.float32).reshape(len(x), -1)
    # A mean of means: one float32 sum of 10^8 numbers would lose digits.
    mean = x.mean(axis=1).mean()
    return jnp.sqrt(((x - mean) ** 2).mean(axis=1).mean())

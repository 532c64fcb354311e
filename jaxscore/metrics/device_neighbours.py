"""Nearest points on accelerators: squared distances in float32, with bounds of their rounding errors.

The products of 50,000 x 50,000 pairs in 2,048 dimensions take 10 TFLOP. They are split over all devices,
block by block. Pairs that float32 cannot decide are left to the caller: `slack` bounds the error of
`candidates`, and `counts` returns the number of such pairs.

>>> from jaxscore import sharding
>>> points = np.array([[0.0], [1.0], [3.0], [7.0], [8.0]])
>>> found, squared = candidates(points[:2] + 0.1, points, 2, sharding.mesh())
>>> found.tolist(), squared.round(2).tolist()
([[0, 1], [1, 0]], [0.81, 1.21])
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Float, Int

from jaxscore import sharding
from jaxscore.types import Array

BLOCK = 2**25
"""Elements of the largest temporary on a device: queries of a block times all points."""

FEW = 16
"""Up to this dimension differences are squared and summed; beyond, `|a|^2 - 2 a.b + |b|^2` is faster."""

FLOAT32, FLOAT64 = 2.0**-24, 2.0**-53
"""Largest relative error of rounding a number."""

Sets = tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "m d"], Float[np.ndarray, "m"]]


def candidates(
    queries: Float[np.ndarray, "n d"],
    points: Float[np.ndarray, "m d"],
    count: int,
    mesh: Mesh,
    *,
    exclude_self: bool = False,
) -> tuple[Int[np.ndarray, "n count"], Float[np.ndarray, "n"]]:
    """Indices of the `count` nearest points of each query in float32, and squared distance of the last one.

    If a point within distance r of the query is left out, the returned squared distance is at most r^2 +
    `slack`. The queries are split over all devices of the mesh. The devices may belong to several processes:
    all of them call this function with the same arrays and get the same result.

    Args:
        queries: points whose neighbours are searched.
        points: points to search.
        count: number of candidates.
        mesh: devices.
        exclude_self: the two sets are the same, and a point is not its own candidate.
    """
    scale, sets = _scaled(queries, points, np.zeros(len(points)))
    nearness, found = _on_devices(sets, mesh, ("candidates", count, exclude_self))
    return found.astype(int), -nearness[:, -1].astype(float) * scale**2


def counts(
    queries: Float[np.ndarray, "n d"],
    points: Float[np.ndarray, "m d"],
    reach: Float[np.ndarray, "m"],
    mesh: Mesh,
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """Number of points that certainly have the query within reach, and number that float32 cannot decide.

    The devices and processes are used as in `candidates`.
    """
    _, sets = _scaled(queries, points, reach)
    inside, unsure = _on_devices(sets, mesh, ("counts", 0, False))
    return inside.astype(int), unsure.astype(int)


def slack(
    queries: Float[np.ndarray, "n d"], points: Float[np.ndarray, "m d"], radius: Float[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
    """Largest error of `candidates` in the squared distance of a pair that is at most `radius` apart."""
    centre, d = points.mean(axis=0), points.shape[1]
    lengths = np.linalg.norm(queries - centre, axis=1) + np.linalg.norm(points - centre, axis=1).max()
    return tolerance(lengths, radius, d, differences=d <= FEW, digits=FLOAT32)


def tolerance(lengths, radius, dimensions: int, *, differences: bool, digits: float):
    """Largest error of a computed squared distance, for a pair at most `radius` apart.

    The sum of the norms is lengths = `|a| + |b|`; a and b carry a relative rounding error of `digits`. A sum
    of d products is taken to be off by 4 sqrt(d) roundings, not by the d roundings of the worst case (Higham
    & Mary 2019).
    """
    if differences:
        moved = 2 * digits * lengths
        return moved * (2 * radius + moved) + (dimensions + 8) * digits * (radius + moved) ** 2
    return (4 * dimensions**0.5 + 16) * digits * lengths**2 + 8 * digits * radius**2


def _scaled(queries: np.ndarray, points: np.ndarray, reach: np.ndarray) -> tuple[float, Sets]:
    """The sets in float32, centred at the points' mean and of norm at most 1, to lose no digits."""
    centre = points.mean(axis=0)
    length = lambda x: np.sqrt(np.max(np.sum((x - centre) ** 2, axis=1)))
    scale = float(max(length(queries), length(points), reach.max())) or 1.0
    sets = (queries - centre) / scale, (points - centre) / scale, reach / scale
    return scale, tuple(x.astype(np.float32) for x in sets)


def _on_devices(sets: Sets, mesh: Mesh, kind: tuple) -> tuple[np.ndarray, np.ndarray]:
    queries, points, reach = sets
    n, split, copied = len(queries), sharding.batched(mesh), sharding.replicated(mesh)
    block = max(1, min(256, BLOCK // len(points), -(-n // mesh.size)))
    total = -(-n // (mesh.size * block)) * mesh.size * block
    queries = np.concatenate([queries, np.zeros((total - n, queries.shape[1]), np.float32)])

    def on_devices(rows: np.ndarray, where: jax.sharding.NamedSharding) -> jax.Array:
        here = sharding.rows_here(where, len(rows))
        return sharding.place(rows[here], where, here, len(rows))

    numbers = on_devices(np.arange(total, dtype=np.int32), split)
    placed = on_devices(queries, split), on_devices(points, copied), on_devices(reach, copied)
    found = _program(mesh, block, *kind)(numbers, *placed)
    return tuple(np.asarray(part)[:n] for part in found)


@functools.cache
def _program(mesh: Mesh, block: int, kind: str, count: int, exclude_self: bool):
    """Compiles (numbers, queries, points, reach) -> results; each device takes its queries block by block."""
    split, whole = PartitionSpec(mesh.axis_names), PartitionSpec()

    def mine(numbers, queries, points, reach):
        def of_block(rows):
            numbers, queries = rows
            squared = _squared(queries, points)
            if kind == "counts":
                return _counted(squared, queries, points, reach)
            if exclude_self:
                own = numbers[:, None] == jnp.arange(len(points))[None]
                squared = jnp.where(own, jnp.inf, squared)
            # The whole result: if only its last value were used, XLA would sort all points on CPUs, 60 times
            # slower.
            return jax.lax.top_k(-squared, count)

        blocks = jax.tree.map(lambda rows: rows.reshape(-1, block, *rows.shape[1:]), (numbers, queries))
        found = jax.lax.map(of_block, blocks)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)

    split_up = jax.shard_map(mine, mesh=mesh, in_specs=(split, split, whole, whole), out_specs=split)
    return jax.jit(split_up, out_shardings=sharding.replicated(mesh))


def _squared(a: Float[Array, "b d"], b: Float[Array, "m d"]) -> Float[Array, "b m"]:
    if a.shape[1] <= FEW:
        return sum((a[:, None, i] - b[None, :, i]) ** 2 for i in range(a.shape[1]))
    products = jnp.matmul(a, b.T, precision="highest")
    return jnp.sum(a**2, axis=1)[:, None] + jnp.sum(b**2, axis=1)[None] - 2 * products


def _counted(squared: Array, queries: Array, points: Array, reach: Array) -> tuple[Array, Array]:
    """Number of balls that certainly contain the query, and number whose surface is too near to decide."""
    length = lambda x: jnp.sqrt(jnp.sum(x**2, axis=1))
    lengths = length(queries)[:, None] + length(points)[None]
    d = queries.shape[1]
    slack = tolerance(lengths, reach[None], d, differences=d <= FEW, digits=FLOAT32)
    margin = reach[None] ** 2 - squared
    return jnp.sum(margin > slack, axis=1), jnp.sum(jnp.abs(margin) <= slack, axis=1)

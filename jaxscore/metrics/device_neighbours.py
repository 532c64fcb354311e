"""Nearest points on accelerators: squared distances in float32, and how wrong they may be.

The products of 50,000 x 50,000 pairs in 2,048 dimensions are 10 TFLOP: for the devices, split over all of
them, block by block. What float32 cannot decide is left to whoever calls, and is said: for `candidates` by
`slack`, and by `counts` itself.

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
"""The largest temporary on a device, in numbers: so many queries at a time times all points."""

FEW = 16
"""Dimensions up to which differences are squared and summed; beyond, |a|^2 - 2 a.b + |b|^2 is faster."""

FLOAT32, FLOAT64 = 2.0**-24, 2.0**-53
"""What rounding a number may change it by, relative to it."""

Sets = tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "m d"], Float[np.ndarray, "m"]]


def candidates(
    queries: Float[np.ndarray, "n d"],
    points: Float[np.ndarray, "m d"],
    count: int,
    mesh: Mesh,
    *,
    exclude_self: bool = False,
) -> tuple[Int[np.ndarray, "n count"], Float[np.ndarray, "n"]]:
    """The `count` nearest points of each query as far as float32 tells, and the last one's squared distance.

    A point that is left out although it is within a distance r of the query makes that squared distance
    at most r^2 + `slack`. The queries are split over the devices of the mesh, all of
    them: the last part is filled up, and what was filled is cut off. With exclude_self the two
    sets are one, and no point is its own candidate. The devices may be those of several processes, if
    all of them call it with the same arrays; all get the result.
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
    """How many points have the query within their reach for certain, and of how many float32 cannot tell.

    On devices and processes as `candidates`.
    """
    _, sets = _scaled(queries, points, reach)
    inside, unsure = _on_devices(sets, mesh, ("counts", 0, False))
    return inside.astype(int), unsure.astype(int)


def slack(
    queries: Float[np.ndarray, "n d"], points: Float[np.ndarray, "m d"], radius: Float[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
    """What `candidates` may be off by in the squared distances of pairs at most `radius` apart."""
    centre, d = points.mean(axis=0), points.shape[1]
    lengths = np.linalg.norm(queries - centre, axis=1) + np.linalg.norm(points - centre, axis=1).max()
    return tolerance(lengths, radius, d, differences=d <= FEW, digits=FLOAT32)


def tolerance(lengths, radius, dimensions: int, *, differences: bool, digits: float):
    """How far a computed squared distance may be from that of a pair at most `radius` apart.

    lengths = |a| + |b| of the pair, a and b rounded to `digits` relative to themselves. A sum of d
    products is taken to be off by 4 sqrt(d) roundings, not by the d that are possible (Higham & Mary 2019).
    """
    if differences:
        moved = 2 * digits * lengths
        return moved * (2 * radius + moved) + (dimensions + 8) * digits * (radius + moved) ** 2
    return (4 * dimensions**0.5 + 16) * digits * lengths**2 + 8 * digits * radius**2


def _scaled(queries: np.ndarray, points: np.ndarray, reach: np.ndarray) -> tuple[float, Sets]:
    """The sets in float32 around the mean of the points and at most 1 long: no digits lost to an offset."""
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
    """(numbers, queries, points, reach) -> results, each device going through its queries in blocks."""
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
            # Whole: if only the last one left, XLA would sort all points on CPUs, 60 times as slow.
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
    """In how many balls for certain, and how many balls' surfaces are too near to tell."""
    length = lambda x: jnp.sqrt(jnp.sum(x**2, axis=1))
    lengths = length(queries)[:, None] + length(points)[None]
    d = queries.shape[1]
    slack = tolerance(lengths, reach[None], d, differences=d <= FEW, digits=FLOAT32)
    margin = reach[None] ** 2 - squared
    return jnp.sum(margin > slack, axis=1), jnp.sum(jnp.abs(margin) <= slack, axis=1)

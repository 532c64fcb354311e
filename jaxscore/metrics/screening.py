"""Nearest points on accelerators: a few candidates for each query in float32, the rest is exact.

The products of 50,000 x 50,000 pairs in 2,048 dimensions are 10 TFLOP: for the devices, split over all of
them. What float32 cannot decide, which of two nearly equal distances is the less, is left to whoever takes
the candidates.

>>> from jaxscore import sharding
>>> points = np.array([[0.0], [1.0], [3.0], [7.0], [8.0]])
>>> np.sort(candidates(points[:2] + 0.1, points, 2, sharding.mesh())).tolist()
[[0, 1], [0, 1]]
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Float, Int

from jaxscore import sharding
from jaxscore.types import AnyArray

BLOCK = 256
"""Queries at a time on a device: the largest temporary is BLOCK x len(points)."""


def candidates(
    queries: Float[AnyArray, "n d"],
    points: Float[AnyArray, "m d"],
    count: int,
    mesh: jax.sharding.Mesh,
    *,
    reach: Float[np.ndarray, "m"] | None = None,
    exclude_self: bool = False,
) -> Int[np.ndarray, "n count"]:
    """Numbers of the points j with the largest reach_j^2 - |query - point_j|^2, as far as float32 tells.

    Without `reach`, the nearest points. The queries are split over the devices of the mesh, all of them:
    the last part is filled up, and what was filled is cut off. With exclude_self the two sets are one, and no
    point is its own candidate. The devices may be those of several processes, if all of them
    call it with the same arrays; all get the result.
    """
    n, centre = len(queries), np.mean(points, axis=0, dtype=float)  # float32 is for what is left
    queries, points = (np.asarray(x - centre, np.float32) for x in (queries, points))
    bonus = np.zeros(len(points)) if reach is None else reach**2
    bonus = np.asarray(bonus - np.sum(points.astype(float) ** 2, axis=1), np.float32)
    block = min(BLOCK, -(-n // mesh.size))
    total = -(-n // (mesh.size * block)) * mesh.size * block
    queries = np.concatenate([queries, np.zeros((total - n, queries.shape[1]), np.float32)])

    def on_devices(rows: np.ndarray, where: jax.sharding.NamedSharding) -> jax.Array:
        here = sharding.rows_here(where, len(rows))
        return sharding.place(rows[here], where, here, len(rows))

    split, copied = sharding.batched(mesh), sharding.replicated(mesh)
    numbers = on_devices(np.arange(total, dtype=np.int32), split)
    sets = on_devices(queries, split), on_devices(points, copied), on_devices(bonus, copied)
    found = _screen(mesh, count, block, exclude_self)(numbers, *sets)
    return np.asarray(found)[:n].astype(int)


@functools.cache
def _screen(mesh: jax.sharding.Mesh, count: int, block: int, exclude_self: bool):
    """The program, each device going through its own queries block by block."""
    split = PartitionSpec(mesh.axis_names)

    def mine(numbers, queries, points, bonus):
        def of_block(part):
            numbers, queries = part
            margin = 2 * jnp.matmul(queries, points.T, precision="highest") + bonus[None]
            if exclude_self:
                own = numbers[:, None] == jnp.arange(len(points))[None]
                margin = jnp.where(own, -jnp.inf, margin)
            return jax.lax.top_k(margin, count)[1]

        blocks = jax.tree.map(lambda rows: rows.reshape(-1, block, *rows.shape[1:]), (numbers, queries))
        return jax.lax.map(of_block, blocks).reshape(-1, count)

    whole = PartitionSpec()
    split_up = jax.shard_map(mine, mesh=mesh, in_specs=(split, split, whole, whole), out_specs=split)
    return jax.jit(split_up, out_shardings=sharding.replicated(mesh))

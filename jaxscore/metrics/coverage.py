"""Nearest neighbours: are the samples among the data, is the data among the samples, are they copies?

All take NumPy or JAX arrays of features or flattened pixels [n, d] and compute in blocks, in
float64. With a `mesh` its devices look for candidates first, each for its part of the queries, and only
those are compared in float64: the same results, for sets of tens of thousands.
"""

import jax
import numpy as np
from jaxtyping import Float

from jaxscore.metrics import screening
from jaxscore.types import AnyArray


def precision_recall(
    samples: Float[AnyArray, "n d"],
    data: Float[AnyArray, "m d"],
    *,
    neighbours: int = 3,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[float, float]:
    """Precision: the share of samples in the data's manifold; recall: of data in the samples'.

    A set's manifold is the union of balls around its points, each reaching to the k-th nearest
    other point of the set (Kynkaanniemi et al. 2019, equations 1-2). Raises ValueError if a set has no
    k-th neighbour.
    """
    precision = _share_inside(samples, data, neighbours, mesh)
    return precision, _share_inside(data, samples, neighbours, mesh)


def nearest_neighbour_ratio(
    samples: Float[AnyArray, "n d"], data: Float[AnyArray, "m d"], *, mesh: jax.sharding.Mesh | None = None
) -> float:
    """median distance of a sample to the nearest datum / median of a datum to the nearest other.

    A check against memorisation: about 1 when samples lie among the data as the data do among
    themselves, near 0 when they are copies. In pixels, not features, which hide small changes.
    """
    to_data = nearest(samples, data, mesh=mesh)[0]
    within = nearest(data, data, exclude_self=True, mesh=mesh)[0]
    return float(np.median(to_data) / np.median(within))


def nearest(
    queries: Float[AnyArray, "n d"],
    points: Float[AnyArray, "m d"],
    *,
    rank: int = 1,
    exclude_self: bool = False,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[Float[np.ndarray, "n"], np.ndarray]:
    """Distance to, and index of, the rank-th nearest point of each query.

    With exclude_self the two sets are one, and no point is its own neighbour. Raises ValueError if
    there is no rank-th point.
    """
    queries, points = np.asarray(queries, float), np.asarray(points, float)
    if not 1 <= rank <= len(points) - exclude_self:
        raise ValueError(f"no neighbour number {rank} among {len(points)} points")
    if mesh is not None:
        count = min(rank + SPARE, len(points) - exclude_self)
        found = screening.candidates(queries, points, count, mesh, exclude_self=exclude_self)
        distances = _to_candidates(queries, points, found)
        chosen = np.argpartition(distances, rank - 1, axis=1)[:, rank - 1 : rank]
        return tuple(np.take_along_axis(a, chosen, axis=1)[:, 0] for a in (distances, found))
    distances, indices = np.empty(len(queries)), np.empty(len(queries), int)
    for start in range(0, len(queries), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(queries)))
        squared = _squared_distances(queries[rows], points)
        if exclude_self:
            squared[rows - start, rows] = np.inf
        chosen = np.argpartition(squared, rank - 1, axis=1)[:, rank - 1]
        indices[rows] = chosen
        # From the difference: the expanded square loses the small distances that matter most.
        distances[rows] = np.linalg.norm(queries[rows] - points[chosen], axis=1)
    return distances, indices


BLOCK = 1024
"""Queries at a time: the largest temporary is BLOCK x len(points)."""

SPARE = 8
"""Candidates beyond those asked for, among which float32 may be mistaken."""


def _share_inside(queries: AnyArray, points: AnyArray, neighbours: int, mesh=None) -> float:
    """The share of queries within reach of any point: its distance to its k-th other point."""
    queries, points = np.asarray(queries, float), np.asarray(points, float)
    reach = nearest(points, points, rank=neighbours, exclude_self=True, mesh=mesh)[0]
    if mesh is not None:
        found = screening.candidates(queries, points, min(SPARE, len(points)), mesh, reach=reach)
        return float(np.mean(np.any(_to_candidates(queries, points, found) <= reach[found], axis=1)))
    inside = 0
    for start in range(0, len(queries), BLOCK):
        squared = _squared_distances(queries[start : start + BLOCK], points)
        inside += int(np.sum(np.any(squared <= reach**2, axis=1)))
    return inside / len(queries)


def _to_candidates(queries: np.ndarray, points: np.ndarray, found: np.ndarray) -> Float[np.ndarray, "n k"]:
    parts = [slice(start, start + BLOCK) for start in range(0, len(queries), BLOCK)]
    distances = [np.linalg.norm(queries[rows, None] - points[found[rows]], axis=2) for rows in parts]
    return np.concatenate(distances)


def _squared_distances(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, "n m"]:
    squares = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1)[None]
    return np.maximum(squares - 2 * a @ b.T, 0)

"""Nearest neighbours, and balls around points that reach to their neighbours: exact for sets of any size.

All functions take NumPy or JAX arrays of features or flattened pixels [n, d]. Returned distances are computed
from differences, in float64. The order of the points is found from `|a|^2 - 2 a.b + |b|^2`, in blocks; where
rounding could change the order, the differences decide.

With a `mesh`, its devices first compute in float32, each for its part of the queries. Pairs that float32
cannot decide are decided on the host, so the results are the same; this pays for sets of tens of thousands.
With several processes, all call the functions with the same arrays.

>>> points = np.array([[0.0], [1.0], [3.0]])
>>> distances, numbers = nearest(np.array([[2.5], [-1.0]]), points)
>>> distances.tolist(), numbers.tolist()
([0.5, 1.0], [2, 0])
>>> balls(np.array([[2.5], [-1.0]]), points, neighbours=1).tolist()       # reaching 1, 1 and 2
[1, 1]
"""

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxscore.metrics import device_neighbours
from jaxscore.types import AnyArray

BLOCK = 1024
"""Queries in a block; the largest temporary is BLOCK x len(points)."""

SPARE = 8
"""Candidates beyond the requested rank: rounding rarely moves a neighbour by more places."""


def nearest(
    queries: Float[AnyArray, "n d"],
    points: Float[AnyArray, "m d"],
    *,
    rank: int = 1,
    exclude_self: bool = False,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[Float[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """Distance to the rank-th nearest point of each query, and its index; ties are broken arbitrarily.

    Args:
        queries: points whose neighbours are searched.
        points: points to search.
        rank: 1 for the nearest point, 2 for the second nearest, and so on.
        exclude_self: the two sets are the same, and a point is not its own neighbour.
        mesh: devices that search first, for large sets.

    Raises:
        ValueError: if there is no rank-th point, or if a number is not finite.
    """
    queries, points = _finite(queries), _finite(points)
    available = len(points) - exclude_self
    if not 1 <= rank <= available:
        raise ValueError(f"no neighbour number {rank} among {len(points)} points")
    distances, numbers = np.empty(len(queries)), np.empty(len(queries), int)
    rows = np.arange(len(queries))
    if mesh is not None:
        count = min(rank + SPARE, available)
        found, last = device_neighbours.candidates(queries, points, count, mesh, exclude_self=exclude_self)
        distances, numbers = _ranked(queries, points, found, rank)
        limit = distances**2 + device_neighbours.slack(queries, points, distances)
        rows = np.flatnonzero((last <= limit) & (distances > 0) & (count < available))
    squares = _squares(points)
    for part in _parts(rows):
        distances[part], numbers[part] = _nearest(queries, points, part, rank, exclude_self, squares)
    return distances, numbers


def balls(
    queries: Float[AnyArray, "n d"],
    points: Float[AnyArray, "m d"],
    *,
    neighbours: int,
    mesh: jax.sharding.Mesh | None = None,
) -> Int[np.ndarray, "n"]:
    """Number of the points' balls that contain each query, including balls with the query on the surface.

    The ball of a point reaches to its k-th nearest other point, k = neighbours. Precision, recall and density
    are means of this function.

    Args:
        queries: points to look for in the balls.
        points: centres of the balls.
        neighbours: number k of the neighbour to which a ball reaches.
        mesh: devices that search first, for large sets.

    Raises:
        ValueError: if there is no k-th other point, or if a number is not finite.
    """
    queries, points = _finite(queries), _finite(points)
    reach = nearest(points, points, rank=neighbours, exclude_self=True, mesh=mesh)[0]
    inside, rows = np.zeros(len(queries), int), np.arange(len(queries))
    if mesh is not None:
        inside, unsure = device_neighbours.counts(queries, points, reach, mesh)
        rows = np.flatnonzero(unsure)
    squares = _squares(points)
    for part in _parts(rows):
        inside[part] = _balls(queries[part], points, reach, squares)
    return inside


# On the host --------------------------------------------------------------------------------------


def _squares(points: np.ndarray):
    """A function of queries: their squared distances [n, m] to the points, and `|a| + |b|` for `_slack`."""
    centre = points.mean(axis=0)
    b = points - centre
    of_b = np.sum(b**2, axis=1)

    def squared(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a = queries - centre
        of_a = np.sum(a**2, axis=1)
        return of_a[:, None] + of_b[None] - 2 * a @ b.T, np.sqrt(of_a) + np.sqrt(of_b.max())

    return squared


def _nearest(queries, points, rows, rank, exclude_self, squares) -> tuple[np.ndarray, np.ndarray]:
    some, available = queries[rows], len(points) - exclude_self
    squared, lengths = squares(some)
    if exclude_self:
        squared[np.arange(len(rows)), rows] = np.inf
    count = min(rank + SPARE, available)
    found = np.argpartition(squared, count - 1, axis=1)[:, :count]
    distances, numbers = _ranked(some, points, found, rank)
    limit = distances**2 + _slack(lengths, distances, points)
    last = np.take_along_axis(squared, found, axis=1).max(axis=1)
    for row in np.flatnonzero((last <= limit) & (distances > 0) & (count < available)):
        near = np.flatnonzero(squared[row] <= limit[row])
        one, which = _ranked(some[row : row + 1], points, near[None], rank)
        distances[row], numbers[row] = one[0], which[0]
    return distances, numbers


def _balls(queries, points, reach, squares) -> np.ndarray:
    squared, lengths = squares(queries)
    margin, slack = reach**2 - squared, _slack(lengths, np.max(reach), points)[:, None]
    inside = np.sum(margin > slack, axis=1)
    for part in _parts(np.argwhere(np.abs(margin) <= slack)):
        i, j = part.T
        np.add.at(inside, i, _apart(queries[i], points[j]) <= reach[j])
    return inside


def _slack(lengths: np.ndarray, radius, points: np.ndarray) -> np.ndarray:
    d = points.shape[1]
    return device_neighbours.tolerance(
        lengths, radius, d, differences=False, digits=device_neighbours.FLOAT64
    )


def _ranked(queries, points, found, rank) -> tuple[np.ndarray, np.ndarray]:
    """Distance and index of the rank-th nearest of the points found for each query."""
    distances = np.empty(found.shape)
    for part in _parts(np.arange(len(queries))):
        distances[part] = _apart(queries[part, None], points[found[part]])
    chosen = np.argpartition(distances, rank - 1, axis=1)[:, rank - 1 : rank]
    return tuple(np.take_along_axis(x, chosen, axis=1)[:, 0] for x in (distances, found))


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # From the difference: the expanded square loses small distances, which matter most.
    return np.sqrt(np.sum((a - b) ** 2, axis=-1))


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]


def _finite(x: AnyArray) -> Float[np.ndarray, "n d"]:
    x = np.asarray(x, float)
    if not np.isfinite(x).all():
        raise ValueError("neighbours of numbers that are not finite")
    return x

"""Coverage: whether the samples lie among the data, and whether the data lie among the samples.

All functions take NumPy or JAX arrays of features or flattened pixels [n, d]. The devices of a `mesh` search
for neighbours in large sets (see `neighbours`). Each metric is a mean over examples of `balls` or `covered`;
their values can be resampled for an interval (see `bootstrap`).
"""

import jax
import numpy as np
from jaxtyping import Bool, Float

from jaxscore.metrics.neighbours import balls, nearest
from jaxscore.types import AnyArray


def precision_recall(
    samples: Float[AnyArray, "n d"],
    data: Float[AnyArray, "m d"],
    *,
    neighbours: int = 3,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[float, float]:
    """Precision: samples in the data's manifold. Recall: data in the samples' manifold; both as fractions.

    The manifold of a set is the union of balls around its points. The ball of a point reaches to its k-th
    nearest other point, k = neighbours (Kynkaanniemi et al. 2019, equations 1-2).

    Args:
        samples: features of the samples.
        data: features of the data.
        neighbours: number k of the neighbour to which a ball reaches.
        mesh: devices that search for neighbours in large sets.

    Raises:
        ValueError: if a set has no k-th neighbour.
    """
    precision = np.mean(balls(samples, data, neighbours=neighbours, mesh=mesh) > 0)
    return float(precision), float(np.mean(balls(data, samples, neighbours=neighbours, mesh=mesh) > 0))


def density_coverage(
    samples: Float[AnyArray, "n d"],
    data: Float[AnyArray, "m d"],
    *,
    neighbours: int = 5,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[float, float]:
    """Density, the mean number of the data's balls around a sample divided by k, and coverage.

    Coverage is the fraction of the data's balls that contain a sample. The ball of a data point reaches to
    its k-th nearest other data point, k = neighbours. For samples of the data's own distribution the mean
    density is 1, and other samples may exceed 1. Their expected coverage is about 1 - 2^-k for sets of equal
    size, exactly

        1 - (m-1)...(m-k) / ((n+m-1)...(n+m-k))

    Only the data have balls, so a stray sample counts no more than any other.

    Args:
        samples: features of the samples.
        data: features of the data.
        neighbours: number k of the neighbour to which a ball reaches.
        mesh: devices that search for neighbours in large sets.

    Raises:
        ValueError: if the data have no k-th neighbour.

    Source: Naeem et al. 2020, section 3.
    """
    density = np.mean(balls(samples, data, neighbours=neighbours, mesh=mesh)) / neighbours
    return float(density), float(np.mean(covered(samples, data, neighbours=neighbours, mesh=mesh)))


def covered(
    samples: Float[AnyArray, "n d"],
    data: Float[AnyArray, "m d"],
    *,
    neighbours: int = 5,
    mesh: jax.sharding.Mesh | None = None,
) -> Bool[np.ndarray, "m"]:
    """Whether the ball of each data point, which reaches to its k-th nearest other, contains a sample."""
    reach = nearest(data, data, rank=neighbours, exclude_self=True, mesh=mesh)[0]
    return nearest(data, samples, mesh=mesh)[0] <= reach

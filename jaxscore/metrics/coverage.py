"""Coverage: are the samples among the data, and is the data among the samples?

All take NumPy or JAX arrays of features or flattened pixels [n, d], and a `mesh` on whose devices to look for
neighbours in large sets; see `neighbours`. Each is a mean over examples of `balls` or `covered`, whose
values can be resampled for an interval; see `bootstrap`.
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
    """Precision: the share of samples in the data's manifold; recall: of data in the samples'.

    A set's manifold is the union of balls around its points, each reaching to the k-th nearest
    other point of the set (Kynkaanniemi et al. 2019, equations 1-2). Raises ValueError if a set has no
    k-th neighbour.
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
    """Density: balls of the data per sample, over k; coverage: the share of balls with a sample in them.

    A datum's ball reaches to its k-th nearest other datum (Naeem et al. 2020, section 3). For samples of the
    data's own distribution density is 1 on average, and may be above 1 for others; coverage is
    1 - (m-1)...(m-k) / ((n+m-1)...(n+m-k)), about 1 - 2^-k for sets of one size. Both use the balls of
    the data alone: one stray sample, whose ball is large, counts no more than another. Raises ValueError if
    the data have no k-th neighbour.
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
    """Whether the ball of each datum, reaching to its k-th nearest other, has a sample in it."""
    reach = nearest(data, data, rank=neighbours, exclude_self=True, mesh=mesh)[0]
    return nearest(data, samples, mesh=mesh)[0] <= reach

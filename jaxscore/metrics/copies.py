"""Memorisation: do samples lie nearer to the training examples than fresh examples do?

In pixels, not features, which hide small changes.

>>> rng = np.random.default_rng(0)
>>> train, held_out = rng.standard_normal((500, 2)), rng.standard_normal((200, 2))
>>> memorisation(train[:200], train, held_out).ratio                       # copies
0.0
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from jaxscore.metrics.neighbours import nearest
from jaxscore.types import AnyArray


class Memorisation(NamedTuple):
    """Of the distances to the nearest training example, the samples' against the held-out examples'.

    ratio: the samples' median over that of the held-out. nearer: the share of samples below the held-out
    examples' quantile; as large as the quantile for samples as fresh as they are. z: the Mann-Whitney
    statistic, standard normal for fresh samples; far below 0 for copies, far above for bad samples.
    """

    ratio: float
    nearer: float
    z: float


def memorisation(
    samples: Float[AnyArray, "n d"],
    train: Float[AnyArray, "m d"],
    held_out: Float[AnyArray, "h d"],
    *,
    quantile: float = 0.05,
    mesh: jax.sharding.Mesh | None = None,
) -> Memorisation:
    """How near the samples are to `train`, against `held_out`, examples of the data never trained on.

    z = (U - n h / 2) / sqrt(n h (n + h + 1) / 12), U the number of pairs of a sample and a held-out
    example in which the sample is further away, ties counting half (Meehan et al. 2020, section 4.1, for one
    cell). Not normal for small sets, and blind to copies in one place made up for by bad samples in
    another: `nearer` shows them. Raises ValueError unless 0 < quantile < 1.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile = {quantile} must lie between 0 and 1")
    ours, theirs = (nearest(x, train, mesh=mesh)[0] for x in (samples, held_out))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.median(ours) / np.median(theirs)
    n, h = len(ours), len(theirs)
    order = np.sort(theirs)
    further = np.searchsorted(order, ours, "left") + np.searchsorted(order, ours, "right")
    z = (further.sum() / 2 - n * h / 2) / np.sqrt(n * h * (n + h + 1) / 12)
    return Memorisation(float(ratio), float(np.mean(ours < np.quantile(theirs, quantile))), float(z))


def nearest_neighbour_ratio(
    samples: Float[AnyArray, "n d"], data: Float[AnyArray, "m d"], *, mesh: jax.sharding.Mesh | None = None
) -> float:
    """median distance of a sample to the nearest datum / median of a datum to the nearest other.

    A check against memorisation where all data were trained on: about 1 when samples lie among the data as
    the data do among themselves, near 0 when they are copies.
    """
    to_data = nearest(samples, data, mesh=mesh)[0]
    within = nearest(data, data, exclude_self=True, mesh=mesh)[0]
    return float(np.median(to_data) / np.median(within))

"""Memorisation: whether samples lie nearer to the training examples than to held-out examples.

Distances are in pixels, because features hide small changes.

>>> rng = np.random.default_rng(0)
>>> train, held_out = rng.standard_normal((500, 2)), rng.standard_normal((500, 2))
>>> copies = memorisation(train[:200], train, held_out)
>>> copies.share, copies.expected, copies.excess
(1.0, 0.5, 1.0)
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from jaxscore.metrics.neighbours import nearest
from jaxscore.types import AnyArray


class Memorisation(NamedTuple):
    """How often the nearest neighbour of a sample is a training example."""

    share: float
    """Fraction of samples whose nearest neighbour is a training example."""
    expected: float
    """Value of `share` for samples that are independent of the split, m / (m + h)."""
    excess: float
    """(share - expected) / (1 - expected), an estimate of the fraction of samples that are copies."""
    z: float
    """(share - expected) in standard deviations, for samples that are independent of the split."""


def memorisation(
    samples: Float[AnyArray, "n d"],
    train: Float[AnyArray, "m d"],
    held_out: Float[AnyArray, "h d"],
    *,
    mesh: jax.sharding.Mesh | None = None,
) -> Memorisation:
    """Fraction of samples nearer to `train` than to `held_out`, and how much of it the sizes explain.

    If both sets have the same size, half of the samples are expected nearer to either. The quality of the
    samples does not matter: bad samples are equally far from both sets, and blurred ones equally near.
    Distances to the training set alone would take blurred samples for copies and bad samples for new ones.
    Ties count half.

        z = (share - e) / sqrt(e (1 - e) N / (N - 1) (sum_i v_i^2 - 1/N)),    e = expected,    N = m + h

    The denominator is the standard deviation of `share` over all splits of the examples into sets of these
    sizes; v_i is the fraction of samples whose nearest neighbour is example i.

    Args:
        samples: samples, flattened.
        train: training examples.
        held_out: examples of the same data that were not trained on; the split must be random.
        mesh: devices that search for neighbours in large sets.

    Raises:
        ValueError: if a set of examples is empty.
    """
    m, h = len(train), len(held_out)
    (to_train, first), (to_held_out, second) = (nearest(samples, x, mesh=mesh) for x in (train, held_out))
    ours = (to_train < to_held_out) + 0.5 * (to_train == to_held_out)
    share, expected = float(np.mean(ours)), m / (m + h)
    each = np.concatenate([np.bincount(first, ours, m), np.bincount(second, 1 - ours, h)]) / len(ours)
    variance = expected * (1 - expected) * (m + h) / (m + h - 1) * (np.sum(each**2) - 1 / (m + h))
    # If all examples are the nearest neighbour equally often, every split has the same `share`.
    z = (share - expected) / variance**0.5 if variance > 1e-15 else 0.0
    return Memorisation(share, expected, (share - expected) / (1 - expected), float(z))


def nearest_neighbour_ratio(
    samples: Float[AnyArray, "n d"], data: Float[AnyArray, "m d"], *, mesh: jax.sharding.Mesh | None = None
) -> float:
    """Ratio of two median distances, a check for memorisation when all data were trained on.

        median distance of a sample to the nearest data point
        ------------------------------------------------------------
        median distance of a data point to the nearest other data point

    About 1 if samples are as far from the data as data points are from each other, near 0 if samples are
    copies. If more than half of the data are duplicates, the denominator is zero and the result is inf or
    nan.
    """
    to_data = nearest(samples, data, mesh=mesh)[0]
    within = nearest(data, data, exclude_self=True, mesh=mesh)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.median(to_data) / np.median(within))

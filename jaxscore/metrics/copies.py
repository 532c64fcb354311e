"""Memorisation: do samples lie nearer to the training examples than to others of the same data?

In pixels, not features, which hide small changes.

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
    """Whose nearest example is one of the training set.

    share: of samples nearer to the training set than to the held-out. expected: the training set's part of
    all examples, which is the share's mean for samples that know nothing of the split. excess:
    (share - expected) / (1 - expected), the part of copies among samples that are otherwise fresh. z: of mean
    0 and variance 1 for samples that know nothing of the split.
    """

    share: float
    expected: float
    excess: float
    z: float


def memorisation(
    samples: Float[AnyArray, "n d"],
    train: Float[AnyArray, "m d"],
    held_out: Float[AnyArray, "h d"],
    *,
    mesh: jax.sharding.Mesh | None = None,
) -> Memorisation:
    """How many samples have their nearest example in `train`, beyond what its size explains.

    `held_out` are examples of the data never trained on, train and held_out split at random; where they
    are of one number, half of the samples are expected nearer to either. Bad samples do not matter: they
    are as far from both, and blurred ones as near, where the distances to the training set alone would take
    the blurred for copies and the bad for fresh. z is share - expected over its standard deviation under all
    splits of the examples into sets of these sizes, sqrt(e (1 - e) N / (N - 1) (sum_i v_i^2 - 1/N)), e
    expected, N = m + h and v_i the share of the samples whose nearest example is i. Ties count half. Raises
    ValueError if a set of examples is empty.
    """
    m, h = len(train), len(held_out)
    (to_train, first), (to_held_out, second) = (nearest(samples, x, mesh=mesh) for x in (train, held_out))
    ours = (to_train < to_held_out) + 0.5 * (to_train == to_held_out)
    share, expected = float(np.mean(ours)), m / (m + h)
    each = np.concatenate([np.bincount(first, ours, m), np.bincount(second, 1 - ours, h)]) / len(ours)
    variance = expected * (1 - expected) * (m + h) / (m + h - 1) * (np.sum(each**2) - 1 / (m + h))
    # Of samples that have all examples alike as their nearest, any split has the same share.
    z = (share - expected) / variance**0.5 if variance > 1e-15 else 0.0
    return Memorisation(share, expected, (share - expected) / (1 - expected), float(z))


def nearest_neighbour_ratio(
    samples: Float[AnyArray, "n d"], data: Float[AnyArray, "m d"], *, mesh: jax.sharding.Mesh | None = None
) -> float:
    """median distance of a sample to the nearest datum / median of a datum to the nearest other.

    A check against memorisation where all data were trained on: about 1 when samples lie among the data as
    the data do among themselves, near 0 when they are copies; of data most of which occur twice infinite, or
    no number.
    """
    to_data = nearest(samples, data, mesh=mesh)[0]
    within = nearest(data, data, exclude_self=True, mesh=mesh)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.median(to_data) / np.median(within))

"""Modes: how many of the known modes of a distribution the samples reach, and how evenly.

>>> means = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
>>> samples = np.array([[0.02, 0.01], [0.0, 0.01], [1.01, 0.0], [0.5, 0.5]])
>>> labels = assign(samples, means, 0.05)
>>> labels.tolist()
[0, 0, 1, -1]
>>> found, kl, assigned = modes_found(labels, 3)
>>> found, round(kl, 4), assigned
(2, 0.4621, 0.75)
>>> stacked(np.array([[0, 4, 2], [9, 9, 9]])).tolist()
[42, 999]
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer
from scipy.special import entr

from jaxscore.types import AnyArray

BLOCK = 4096
"""Samples in a block; the largest temporary is BLOCK x (dimensions + modes)."""


class Modes(NamedTuple):
    """How many modes the samples reach, and how evenly."""

    found: int
    """Number of modes that have a sample."""
    kl: float
    """KL divergence from the modes' frequencies to uniform, in nats."""
    assigned: float
    """Fraction of samples that belong to a mode."""


def modes_found(labels: Integer[AnyArray, "n"], modes: int) -> Modes:
    """Number of modes with a sample, KL divergence to uniform, and fraction of samples that belong to a mode.

        KL(p || uniform) = log modes + sum_k p_k log p_k

    p_k is the fraction of mode k among the samples that belong to a mode; the KL is infinite if none does.
    For the KL to the frequencies of data see `class_kl`.

    The published protocols are the grid of 25 Gaussians with 2,500 samples, and 1,000 stacked digits with
    26,000 samples (Srivastava et al. 2017, sections 4.1 and 4.2; Lin et al. 2018, section 4). Fewer samples
    reach fewer modes, and even n perfect samples have a KL of about (modes - 1) / (2 n).

    Args:
        labels: mode of each sample, 0 to modes - 1, or -1 for none.
        modes: number of modes.

    Raises:
        ValueError: for other labels, for no samples, or if modes < 1.
    """
    labels = np.asarray(labels)
    if modes < 1:
        raise ValueError(f"modes = {modes} must be at least 1")
    if len(labels) == 0 or labels.min() < -1 or labels.max() >= modes:
        raise ValueError(f"labels must be -1 or the number of one of {modes} modes, of one sample or more")
    counts = np.bincount(labels[labels >= 0], minlength=modes)
    assigned = int(counts.sum())
    p = counts / max(assigned, 1)
    # No less than 0, which the rounding of an even spread may come to.
    kl = max(float(np.log(modes) - np.sum(entr(p))), 0.0) if assigned else float("inf")
    return Modes(int(np.sum(counts > 0)), kl, assigned / len(labels))


def assign(
    samples: Float[AnyArray, "n d"],
    means: Float[AnyArray, "k d"],
    std: float | Float[AnyArray, "k"],
    *,
    reach: float = 3.0,
) -> Int[np.ndarray, "n"]:
    """Number of the nearest mean of each sample, or -1 if it is farther than `reach` standard deviations.

    The components of the mixture are N(means[k], std[k]^2 I). In two dimensions, with a reach of 3, this is
    the protocol of Srivastava et al. 2017, section 4.1: samples within reach of a mode are of high quality,
    and a mode is found if it has such a sample. Of the mixture's own samples, exp(-9/2) = 1.1 % are out of
    reach in two dimensions, and more in higher dimensions. Samples with non-finite numbers get -1.

    Args:
        samples: samples.
        means: means of the components.
        std: standard deviation of all components, or one for each.
        reach: largest distance to the mean, in standard deviations.

    Raises:
        ValueError: unless std and reach are positive.
    """
    samples, means = np.asarray(samples, float), np.asarray(means, float)
    std = np.broadcast_to(np.asarray(std, float), len(means))
    if not (np.all(std > 0) and reach > 0):
        raise ValueError(f"std {std} and reach {reach} must be positive")
    labels = np.full(len(samples), -1)
    for start in range(0, len(samples), BLOCK):
        part = samples[start : start + BLOCK]
        distances = np.stack([np.linalg.norm(part - mean, axis=1) for mean in means], axis=1)
        finite = np.isfinite(distances).all(axis=1)
        nearest = np.argmin(np.where(finite[:, None], distances, np.inf), axis=1)
        within = finite & (distances[np.arange(len(part)), nearest] <= reach * std[nearest])
        labels[start : start + BLOCK][within] = nearest[within]
    return labels


def stacked(labels: Integer[AnyArray, "n k"], *, classes: int = 10) -> Int[np.ndarray, "n"]:
    """Mode numbers of stacked images, whose k channels each show one of `classes` classes.

    The labels of the channels are read as digits of a number in base `classes`, the first channel's the most
    significant: 0 to classes^k - 1, which is 999 for three stacked digits.

    Raises:
        ValueError: for labels outside 0 to classes - 1.

    Source: Metz et al. 2017, section 3.3.1.
    """
    labels = np.asarray(labels)
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels must lie in 0 to {classes - 1}")
    return labels @ classes ** np.arange(labels.shape[1])[::-1]

"""Number of noise levels, Langevin step size, and noise distribution for training: plain arithmetic.

>>> level_count(0.01, 50.0, 3072)
232
>>> f"{step_size(0.01, ratio_for(3072), 5):.1e}"
'6.2e-06'
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

OVERLAP = 0.567
"""Overlap of neighbouring levels in all published recipes; the paper's text says "about 0.5"."""

# The ratio of the levels: technique 2 -----------------------------------------------------------


def overlap(ratio: float, dimension: int) -> float:
    """Overlap of two neighbouring noise levels in D dimensions, g = sigma_{i-1} / sigma_i being their ratio.

        Phi(sqrt(2D)(g - 1) + 3g) - Phi(sqrt(2D)(g - 1) - 3g)

    This is the fraction of noise vectors at the smaller level whose norm lies within three standard
    deviations of the mean norm at the larger level. The norm at level sigma is taken as N(sqrt(D) sigma,
    sigma^2 / 2).

    Raises:
        ValueError: if ratio < 1.

    Source: Song & Ermon 2020, technique 2.
    """
    if ratio < 1:
        raise ValueError(f"ratio = {ratio} must be at least 1")
    return _overlap(ratio, dimension)


def _overlap(ratio: float, dimension: int) -> float:
    shift = math.sqrt(2 * dimension) * (ratio - 1)
    tail = lambda z: math.erfc(z / math.sqrt(2)) / 2
    return tail(shift - 3 * ratio) - tail(shift + 3 * ratio)


def ratio_for(dimension: int, overlap: float = OVERLAP) -> float:
    """Ratio of neighbouring levels that have this overlap in so many dimensions, found by bisection.

    Raises:
        ValueError: unless 0 < overlap < 0.997, where 0.997 is the overlap of a level with itself.
        ValueError: if dimension < 5, where the formula's overlap does not fall to 0 as the ratio grows.
    """
    if not 0 < overlap < 0.997:
        raise ValueError(f"overlap = {overlap} must lie between 0 and 0.997")
    if dimension < 5:
        raise ValueError(f"dimension = {dimension}: the formula needs at least 5")
    low, high = 1.0, 2.0
    while _overlap(high, dimension) > overlap:
        high *= 2
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if _overlap(middle, dimension) > overlap else (low, middle)
    return middle


def level_count(sigma_min: float, sigma_max: float, dimension: int, overlap: float = OVERLAP) -> int:
    """Number L of geometric levels from sigma_max to sigma_min, both included, that overlap by `overlap`.

    Args:
        sigma_min: smallest noise level, in units of the data.
        sigma_max: largest noise level.
        dimension: numbers in an example, D.
        overlap: overlap of neighbouring levels, as the function `overlap` defines it.

    Raises:
        ValueError: unless 0 < sigma_min < sigma_max, and as `ratio_for` does.
    """
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"need 0 < sigma_min < sigma_max, not {sigma_min} and {sigma_max}")
    return max(2, 1 + round(math.log(sigma_max / sigma_min) / math.log(ratio_for(dimension, overlap))))


# The step size: technique 4 -------------------------------------------------------------------


def annealing_error(
    epsilon: float | Float[np.ndarray, "k"], sigma_min: float, ratio: float, steps: int
) -> float | Float[np.ndarray, "k"]:
    """Relative excess of the variance over sigma^2 after a level's Langevin steps, for data at one point.

        (1 - e)^(2T) (g^2 - q) + q - 1,    e = epsilon / sigma_min^2,    q = 2e / (1 - (1 - e)^2)

    In units of sigma^2, the variance starts at g^2, left by the level before. Each of the T steps maps v to
    (1 - e)^2 v + 2e, and q is the fixed point of this map. The error is never negative.

    Args:
        epsilon: Langevin step size at sigma_min, or an array of step sizes.
        sigma_min: smallest noise level.
        ratio: g = sigma_{i-1} / sigma_i.
        steps: Langevin steps at each level, T.

    Raises:
        ValueError: unless 0 < epsilon < 2 sigma_min^2; the steps diverge otherwise.
        ValueError: unless ratio >= 1 and steps >= 1.

    Source: Song & Ermon 2020, technique 4.
    """
    e = epsilon / sigma_min**2
    if not (np.all(e > 0) and np.all(e < 2)):
        raise ValueError(f"epsilon = {epsilon} must lie between 0 and 2 sigma_min^2 = {2 * sigma_min**2:.3g}")
    if ratio < 1 or steps < 1:
        raise ValueError(f"need ratio >= 1 and steps >= 1, not {ratio} and {steps}")
    q = 2 / (2 - e)
    return (1 - e) ** (2 * steps) * (ratio**2 - q) + q - 1


def step_size(sigma_min: float, ratio: float, steps: int) -> float:
    """Langevin step size epsilon at sigma_min that has the least `annealing_error`.

    The error has no zero. A shorter step leaves more noise of the level before, a longer step adds more noise
    of its own.

    Raises:
        ValueError: as `annealing_error` does, and if ratio = 1, where the best step would be 0.
    """
    if not (sigma_min > 0 and ratio > 1):
        raise ValueError(f"need sigma_min > 0 and ratio > 1, not {sigma_min} and {ratio}")
    grid = np.geomspace(1e-12, 1.0, 1001) * sigma_min**2
    for _ in range(6):
        best = int(np.clip(np.argmin(annealing_error(grid, sigma_min, ratio, steps)), 1, len(grid) - 2))
        grid = np.linspace(grid[best - 1], grid[best + 1], 101)
    return float(grid[50])


def pace(epsilon: float, sigma_min: float, ratio: float, steps: int) -> float:
    """How fast the levels fall for a network divided by sigma (NCSNv2); above 1 noise accumulates.

        ((g^2 - 1) / T) / (e / (2 + e)),    e = epsilon / sigma_min^2,    g = ratio,    T = steps

    Technique 4 assumes the score -x / sigma^2, which grows with the noise in x. A network that does not know
    the level has learnt n / sigma instead, where n has norm sqrt(D) however much noise x has. If the noise in
    x has standard deviation r sigma, a step adds 2e (1 + e/2 - r) to r^2. The T steps of a level must undo
    the factor g^2 by which the next level multiplies r^2. For a pace up to 1 some r satisfies this; above 1
    none does. The published recipes have 0.1 to 0.7.

    Args:
        epsilon: Langevin step size at sigma_min.
        sigma_min: smallest noise level.
        ratio: ratio of neighbouring levels.
        steps: Langevin steps at each level.

    Raises:
        ValueError: as `annealing_error` does.

    Derived here, for small steps.
    """
    annealing_error(epsilon, sigma_min, ratio, steps)  # raises for invalid arguments
    e = epsilon / sigma_min**2
    return (ratio**2 - 1) / steps * (2 + e) / e


# Noise for training at all levels at once -------------------------------------------------------


class TrainingNoise(NamedTuple):
    """Noise levels for training: ln sigma ~ N(mean, std^2), which is `noise.lognormal(mean, std)`."""

    mean: float
    std: float


def training_noise(sigma_data: float) -> TrainingNoise:
    """EDM's distribution of noise levels, shifted for data of standard deviation `sigma_data`.

        ln sigma ~ N(-1.2 + ln(sigma_data / 0.5), 1.2^2)

    Karras et al. 2022, table 1, chose (-1.2, 1.2) for sigma_data = 0.5. If data and noise are both multiplied
    by c, the problem stays the same: the mean of ln sigma moves by ln c and its standard deviation is
    unchanged.

    Raises:
        ValueError: unless sigma_data > 0.
    """
    if not sigma_data > 0:
        raise ValueError(f"sigma_data = {sigma_data} must be positive")
    return TrainingNoise(-1.2 + math.log(sigma_data / 0.5), 1.2)

"""How many noise levels, how long a Langevin step, and which noise to train with: plain arithmetic.

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
"""What neighbouring levels share in all published recipes; the paper's text says "about 0.5"."""

# The ratio of the levels: technique 2 -----------------------------------------------------------


def overlap(ratio: float, dimension: int) -> float:
    """Phi(sqrt(2D)(g - 1) + 3g) - Phi(sqrt(2D)(g - 1) - 3g), g the ratio: technique 2 of Song & Ermon 2020.

    Of the noise at the larger of two levels, the share whose length is among those of the smaller's
    (its mean and three standard deviations), in D dimensions. Raises ValueError unless ratio >= 1.
    """
    if ratio < 1:
        raise ValueError(f"ratio = {ratio} must be at least 1")
    return _overlap(ratio, dimension)


def _overlap(ratio: float, dimension: int) -> float:
    shift = math.sqrt(2 * dimension) * (ratio - 1)
    tail = lambda z: math.erfc(z / math.sqrt(2)) / 2
    return tail(shift - 3 * ratio) - tail(shift + 3 * ratio)


def ratio_for(dimension: int, overlap: float = OVERLAP) -> float:
    """The ratio of neighbouring levels at which they overlap so much, by bisection.

    Raises ValueError unless 0 < overlap < 0.997 (which is the overlap of a level with itself), and
    for fewer than 5 dimensions, where the formula has levels overlap at any ratio.
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
    """How many geometric levels from sigma_max to sigma_min, both included, overlap so much: L.

    Raises ValueError unless 0 < sigma_min < sigma_max, and as `ratio_for` does.
    """
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"need 0 < sigma_min < sigma_max, not {sigma_min} and {sigma_max}")
    return max(2, 1 + round(math.log(sigma_max / sigma_min) / math.log(ratio_for(dimension, overlap))))


# The step size: technique 4 -------------------------------------------------------------------


def annealing_error(
    epsilon: float | Float[np.ndarray, "k"], sigma_min: float, ratio: float, steps: int
) -> float | Float[np.ndarray, "k"]:
    """(1 - e)^(2T) (g^2 - q) + q - 1, e = epsilon / sigma_min^2, q = 2e / (1 - (1 - e)^2), T steps.

    Technique 4 of Song & Ermon 2020: by how much the variance exceeds sigma^2 after a level's Langevin
    steps, in units of it, for data at one point: it begins at g^2, the level before's, each step makes v
    into (1 - e)^2 v + 2e, and q is where that stays. It is never below 0. Raises ValueError unless
    0 < epsilon < 2 sigma_min^2, where the steps converge, ratio >= 1 and steps >= 1.
    """
    e = epsilon / sigma_min**2
    if not (np.all(e > 0) and np.all(e < 2)):
        raise ValueError(f"epsilon = {epsilon} must lie between 0 and 2 sigma_min^2 = {2 * sigma_min**2:.3g}")
    if ratio < 1 or steps < 1:
        raise ValueError(f"need ratio >= 1 and steps >= 1, not {ratio} and {steps}")
    q = 2 / (2 - e)
    return (1 - e) ** (2 * steps) * (ratio**2 - q) + q - 1


def step_size(sigma_min: float, ratio: float, steps: int) -> float:
    """The epsilon of the least `annealing_error`: the Langevin step at sigma_min.

    That error has no zero: a step that is too short leaves the noise of the level before, and one that
    is too long adds its own. Raises ValueError as `annealing_error` does, and for a ratio of 1, where the
    best step is none.
    """
    if not (sigma_min > 0 and ratio > 1):
        raise ValueError(f"need sigma_min > 0 and ratio > 1, not {sigma_min} and {ratio}")
    grid = np.geomspace(1e-12, 1.0, 1001) * sigma_min**2
    for _ in range(6):
        best = int(np.clip(np.argmin(annealing_error(grid, sigma_min, ratio, steps)), 1, len(grid) - 2))
        grid = np.linspace(grid[best - 1], grid[best + 1], 101)
    return float(grid[50])


def pace(epsilon: float, sigma_min: float, ratio: float, steps: int) -> float:
    """((g^2 - 1) / T) / (e / (2 + e)), e = epsilon / sigma_min^2: above 1, levels fall too fast for NCSNv2.

    Technique 4 takes the score to be -x / sigma^2, which pulls the harder the more noise is left. A network
    that is not told the level has learnt n / sigma instead, n of norm sqrt(D) however much noise there is:
    where that has the standard deviation r sigma, a step adds 2e (1 + e/2 - r) to r^2, and T steps have to
    make up for the g^2 by which the next level multiplies it. Up to a pace of 1 there is an r at which they
    do; beyond it noise piles up from level to level. The published recipes have 0.1 to 0.7. Derived here;
    steps are taken to be small. Raises ValueError as `annealing_error` does.
    """
    annealing_error(epsilon, sigma_min, ratio, steps)  # refuses what cannot be
    e = epsilon / sigma_min**2
    return (ratio**2 - 1) / steps * (2 + e) / e


# Noise for training at all levels at once -------------------------------------------------------


class TrainingNoise(NamedTuple):
    """ln sigma ~ N(mean, std^2) in training: `noise.lognormal(mean, std)`."""

    mean: float
    std: float


def training_noise(sigma_data: float) -> TrainingNoise:
    """ln sigma ~ N(-1.2 + ln(sigma_data / 0.5), 1.2^2): EDM's noise, for data of any spread.

    Karras et al. 2022, table 1, chose (-1.2, 1.2) for sigma_data = 0.5. Data and noise made c times larger
    are the same problem, whose score is 1 / c of what it was, so ln sigma moves by ln c and its spread
    stays. Raises ValueError unless sigma_data > 0.
    """
    if not sigma_data > 0:
        raise ValueError(f"sigma_data = {sigma_data} must be positive")
    return TrainingNoise(-1.2 + math.log(sigma_data / 0.5), 1.2)

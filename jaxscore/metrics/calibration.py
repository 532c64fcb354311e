"""Calibration: whether posteriors p(theta | y) that were learnt from simulations are exact.

A simulation is a parameter drawn from the prior, the truth, and an observation y of it. Each check takes n
simulations and k independent draws from the posterior of each:

    sbc_ranks      rank of each true parameter among its draws
    tarp_ranks     rank of the truth's distance to a reference point; all parameters together
    density_ranks  rank of the truth's posterior density; all parameters together

    rank = (below + u (equal + 1)) / (k + 1),    u uniform in [0, 1)

`below` and `equal` count the draws below the truth and equal to the truth. If the posteriors are exact, each
rank is exactly uniform in [0, 1], for every k and for discrete parameters too. Ranks of different simulations
are independent, but calls with the same seed use the same u. `uniformity` tests the ranks. `coverage_at`
tells too narrow posteriors from too wide posteriors.

The checks see different faults. The table has the fraction of tests with a p-value below 0.05, for 200
simulations of two parameters with 100 draws each. About 0.05 means that the check is blind to the fault.

    fault of the posterior               sbc_ranks  tarp_ranks  density_ranks  |2 tarp_ranks - 1|
    none                                      0.04        0.05           0.05                0.05
    standard deviations times 0.6             1.00        1.00           1.00                1.00
    standard deviations times 1.7             1.00        1.00           1.00                1.00
    mean off by 0.3 standard deviations       0.95        0.07           0.07                0.08
    correlation of 0.9 left out               0.05        0.33           0.97                0.72
    the prior, whatever the observation       0.06        0.05           0.05                0.05

>>> rng = np.random.default_rng(1)
>>> truths = rng.standard_normal((500, 2))
>>> means = (truths + rng.standard_normal((500, 2))) / 2                # y / 2, where y = theta + noise
>>> draws = means[:, None] + rng.standard_normal((500, 100, 2)) / 2**0.5
>>> uniformity(sbc_ranks(truths, draws)).p_value > 0.05
True
>>> narrow = means[:, None] + 0.6 * (draws - means[:, None])
>>> uniformity(tarp_ranks(truths, narrow)).p_value < 1e-6
True
>>> coverage_at(tarp_ranks(truths, narrow), (0.5, 0.9), central=True).z < -5
array([ True,  True])
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from jaxscore.metrics.numbers import real, refuse
from jaxscore.types import AnyArray

FARTHEST = 1e12
"""Most widths between a reference of `tarp_ranks` and the parameters."""

FEWEST = 7
"""Least number of ranks in a test: with 6, even a posterior of no width can have a p-value above 0.05."""


class Uniformity(NamedTuple):
    """Kolmogorov-Smirnov tests of ranks against the uniform distribution; see `uniformity`."""

    statistic: float | Float[np.ndarray, "..."]
    """Largest difference between the ranks' distribution function and the uniform one, for each column."""
    p_values: float | Float[np.ndarray, "..."]
    """p-value of each column by itself."""
    p_value: float
    """p-value of all columns together: the smallest one times the number of columns, at most 1."""


class Coverage(NamedTuple):
    """How many truths lie in the regions of some levels; see `coverage_at`."""

    level: Float[np.ndarray, "l"]
    """Posterior probability of each region."""
    fraction: Float[np.ndarray, "l ..."]
    """Fraction of truths inside the region, for each level and each column of ranks."""
    error: Float[np.ndarray, "l"]
    """Standard error of `fraction` for exact posteriors, sqrt(level (1 - level) / n)."""
    z: Float[np.ndarray, "l ..."]
    """(fraction - level) / error: negative for too narrow posteriors, positive for too wide posteriors."""


# Ranks --------------------------------------------------------------------------------------------


def sbc_ranks(
    truths: Num[AnyArray, "n d"], draws: Num[AnyArray, "n k d"], *, seed: int = 0
) -> Float[np.ndarray, "n d"]:
    """Rank of each true parameter among the k draws of its posterior: simulation-based calibration.

    Exact posteriors have uniform ranks in each column. Ranks near 0 and 1 mean too narrow posteriors, ranks
    near 0.5 too wide posteriors, and ranks near one end a shift. The columns are tested one by one, so the
    check is blind to wrong correlations between parameters.

    A column may also be a function of the parameters and the observation, computed for the truth and for all
    draws. The log likelihood of the observation shows a posterior that ignores the observation. The
    parameters alone do not show this fault.

    Args:
        truths: true parameters.
        draws: independent draws from the posterior of each simulation.
        seed: seed of u, which breaks ties.

    Raises:
        ValueError: if the shapes do not fit, k < 1, or a number is not finite in some simulations.

    Source: Talts et al. 2018, theorem 1.
    """
    truths, draws = _simulations(truths, draws, "d")
    return _ranks(truths, draws, _generator(seed, b"sbc"))


def tarp_ranks(
    truths: Num[AnyArray, "n d"],
    draws: Num[AnyArray, "n k d"],
    references: Num[AnyArray, "n d"] | None = None,
    *,
    seed: int = 0,
) -> Float[np.ndarray, "n"]:
    """Rank of the truth among the k draws by distance to a reference point (TARP).

        distance^2 = sum_j ((theta_j - reference_j) / width_j)^2

    width_j is the length of the range with the central 98 % of parameter j, in truths and draws together.
    Random reference points are uniform in the box of these ranges. The ranks of exact posteriors stay exactly
    uniform, because truths and draws enter the box alike.

    Reference points on all sides hide a shift of all posteriors by the same amount. Reference points on one
    side show the shift. Reference points that depend on the observation, such as an estimate of the
    parameters plus noise, show a posterior that ignores the observation. Reference points must not depend on
    the truth except through the observation.

    Args:
        truths: true parameters.
        draws: independent draws from the posterior of each simulation.
        references: reference point of each simulation, in the units of the truths; random points if None.
        seed: seed of the reference points and of u, which breaks ties.

    Raises:
        ValueError: if the shapes do not fit, k < 1, a number is not finite in some simulations, or a
            reference is too far away to tell distances apart in float64.

    Source: Lemos et al. 2023.
    """
    truths, draws = _simulations(truths, draws, "d")
    together = np.concatenate([truths[:, None], draws], axis=1)
    low, high = _box(together.reshape(-1, truths.shape[1]))
    generator = _generator(seed, b"tarp")
    if references is None:
        references = generator.uniform(low, high, truths.shape)
    else:
        references = real(references, "references")
        if references.shape != truths.shape:
            raise ValueError(f"references have shape {references.shape} and truths {truths.shape}")
        refuse(~np.isfinite(references))
    width = np.where(high > low, high - low, 1)
    if np.any(np.abs(references - low) > FARTHEST * width):
        raise ValueError(f"references lie more than {FARTHEST:g} widths away: all distances are equal there")
    # The truth's distance is computed with those of the draws: ties must not depend on rounding.
    squares = np.sum(((together - references[:, None]) / width) ** 2, axis=2)
    return _ranks(squares[:, 0], squares[:, 1:], generator)


def density_ranks(
    log_p_truths: Float[AnyArray, "n"], log_p_draws: Float[AnyArray, "n k"], *, seed: int = 0
) -> Float[np.ndarray, "n"]:
    """Rank of the truth by posterior density: level of the smallest highest-density region that contains it.

    The rank is the fraction of draws with a higher density than the truth. The fraction of ranks below a
    level is the expected coverage of this level. Ranks near 1 mean too narrow posteriors, ranks near 0 too
    wide posteriors. Densities need no normalisation, because each truth is compared with its own draws only.
    A density of zero, -inf, is allowed: the truth then lies outside the posterior's support.

    Args:
        log_p_truths: log p(truth | y) under the posterior that is judged.
        log_p_draws: log p(draw | y) of its own independent draws.
        seed: seed of u, which breaks ties.

    Raises:
        ValueError: if the shapes do not fit, k < 1, or a number is nan or inf in some simulations.

    Source: Hermans et al. 2022.
    """
    log_p_truths, log_p_draws = _simulations(log_p_truths, log_p_draws, "", allowed=-np.inf)
    return _ranks(-log_p_truths, -log_p_draws, _generator(seed, b"density"))


# Tests of ranks -----------------------------------------------------------------------------------


def uniformity(ranks: Float[AnyArray, "n ..."]) -> Uniformity:
    """Kolmogorov-Smirnov test of each column of ranks against the uniform distribution.

        statistic = max_r |F_n(r) - r|,    F_n the distribution function of the n ranks

    For exact posteriors, each p-value is uniform in [0, 1]. The p-value of all columns together is corrected
    after Bonferroni: it is below alpha with a probability of at most alpha, however the columns depend on
    each other. Columns whose own p-value is below alpha divided by the number of columns are at fault.
    abs(2 ranks - 1) is uniform too. For `sbc_ranks` and `tarp_ranks`, its test has more power against a wrong
    width and less against a shift.

    Raises:
        ValueError: unless there are at least 7 ranks, all in [0, 1].
    """
    from scipy.stats import kstwo  # slow to import

    ordered = np.sort(_checked(ranks), axis=0)
    n = len(ordered)
    steps = np.arange(n + 1).reshape(-1, *[1] * (ordered.ndim - 1)) / n
    statistic = np.maximum(steps[1:] - ordered, ordered - steps[:-1]).max(axis=0)
    p_values = kstwo.sf(statistic, n)
    return Uniformity(statistic, p_values, float(min(1, np.min(p_values) * np.size(p_values))))


def coverage_at(
    ranks: Float[AnyArray, "n ..."], levels: Sequence[float] = (0.5, 0.8, 0.95), *, central: bool
) -> Coverage:
    """Fraction of truths inside the posterior's region of each level, with its standard error.

    The region of level L contains the truth if abs(2 rank - 1) <= L for `central` regions, and if rank <= L
    for others. For exact posteriors the fraction is binomial, with mean L and standard error
    sqrt(L (1 - L) / n), and z has mean 0 and standard deviation 1.

    Args:
        ranks: ranks of the simulations.
        levels: levels between 0 and 1.
        central: True for `sbc_ranks` and `tarp_ranks`, False for `density_ranks`.

    Raises:
        ValueError: unless there are at least 7 ranks in [0, 1], and all levels are between 0 and 1.
    """
    ranks, level = _checked(ranks), np.asarray(levels, float)
    if level.ndim != 1 or level.size == 0 or not np.all((level > 0) & (level < 1)):
        raise ValueError(f"levels {levels} must lie between 0 and 1")
    reached = np.abs(2 * ranks - 1) if central else ranks
    fraction = np.stack([np.mean(reached <= each, axis=0) for each in level])
    error = np.sqrt(level * (1 - level) / len(ranks))
    return Coverage(level, fraction, error, ((fraction.T - level) / error).T)


# Helpers ------------------------------------------------------------------------------------------


def _ranks(truths: np.ndarray, draws: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    below = np.sum(draws < truths[:, None], axis=1)
    equal = np.sum(draws == truths[:, None], axis=1)
    return (below + generator.random(below.shape) * (equal + 1)) / (draws.shape[1] + 1)


def _generator(seed: int, name: bytes) -> np.random.Generator:
    # Not default_rng(seed), from which the caller may have drawn the truths: references would repeat them.
    return np.random.default_rng([seed, int.from_bytes(name)])


def _box(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the central 98 % of each column, or of the whole column if these are equal."""
    low, high = np.quantile(points, [0.01, 0.99], axis=0)
    return np.where(low < high, low, points.min(axis=0)), np.where(low < high, high, points.max(axis=0))


def _simulations(
    truths: AnyArray, draws: AnyArray, event: str, *, allowed: float = np.nan
) -> tuple[np.ndarray, np.ndarray]:
    """Truths and draws in float64, checked; `allowed` is an infinite value that is not refused."""
    truths, draws = real(truths, "truths"), real(draws, "draws")
    fits = draws.ndim == 2 + len(event) and draws.shape[:1] + draws.shape[2:] == truths.shape
    if not fits or draws.size == 0:
        need = f"must be {'[n, d] and [n, k, d]' if event else '[n] and [n, k]'}, all at least 1"
        raise ValueError(f"shapes {truths.shape} of the truths and {draws.shape} of the draws {need}")
    finite = lambda x: (np.isfinite(x) | (x == allowed)).reshape(len(x), -1).all(axis=1)
    refuse(~(finite(truths) & finite(draws)))
    return truths, draws


def _checked(ranks: AnyArray) -> np.ndarray:
    ranks = real(ranks, "ranks")
    if ranks.ndim == 0 or len(ranks) < FEWEST or ranks.size == 0:
        raise ValueError(f"ranks of shape {ranks.shape}: at least {FEWEST} simulations are needed")
    refuse(~np.isfinite(ranks))
    if not np.all((ranks >= 0) & (ranks <= 1)):
        raise ValueError(f"ranks from {ranks.min()} to {ranks.max()} must lie between 0 and 1")
    return ranks

"""Intervals: how much a metric would change with other samples, or with other training seeds.

The right interval depends on the statistic:

    interval      means of values per example, by the bootstrap: fractions of samples, and precision,
                  recall, density and coverage computed from their values per example
    half_samples  distances between sets and nearest neighbours, for which the bootstrap is wrong
    over_blocks   unbiased statistics of large sets that are expensive, such as kid
    over_seeds    the result of a recipe, from several trainings

The first three resample the samples and the data of one trained model. They do not include the variation
between trainings.

A bootstrap draws examples with replacement: 37 % of the examples are missing and many occur twice. The
distance between two copies of an example is 0. Nearest neighbours are therefore too near, balls too small,
and a kernel's mean over different examples includes equal ones. A Frechet distance or class_kl has a bias of
about 1/n, and the bootstrap adds the same bias again. If two sets have nearly the same distribution, the
percentiles may not even contain the value.

>>> from jaxscore import metrics
>>> rng = np.random.default_rng(0)
>>> samples, data = rng.standard_normal((200, 2)), rng.standard_normal((300, 2))
>>> precision = interval(np.mean, metrics.balls(samples, data, neighbours=3) > 0)
>>> precision.low < precision.value < precision.high
True
>>> frechet = half_samples(metrics.frechet, samples, data)
>>> frechet.low < frechet.value < frechet.high
True
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri, stdtrit

from jaxscore.types import AnyArray

Statistic = Callable[..., float]
Statistics = Callable[..., float | Float[np.ndarray, "k"]]


class Interval(NamedTuple):
    """A value with the ends of its interval; arrays of them if the statistic returns several numbers."""

    value: float | Float[np.ndarray, "k"]
    low: float | Float[np.ndarray, "k"]
    high: float | Float[np.ndarray, "k"]


class Seeds(NamedTuple):
    """Mean and standard deviation of a few values, and the interval of their mean."""

    mean: float
    sd: float
    low: float
    high: float


def interval(
    statistic: Statistic, *sets: AnyArray, resamples: int = 200, level: float = 0.95, seed: int = 0
) -> Interval:
    """The statistic of the sets, with a percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13).

    Each resample draws as many rows of each set as it has, with replacement. The interval is right for means,
    not for nearest neighbours or distances between sets (see above). For a mean of values per example such as
    `balls(...) > 0` it describes new samples with fixed balls, and leaves out the variation of the data.

    Args:
        statistic: function of the sets that returns a number.
        *sets: arrays with rows first; all are resampled.
        resamples: number of resamples.
        level: probability that the interval is to cover.
        seed: seed of the resampling.

    Raises:
        ValueError: unless resamples >= 2, 0 < level < 1 and no set is empty.
    """
    _check(level, resamples, sets, 1)
    rng = np.random.default_rng(seed)
    draw = lambda x: np.asarray(x)[rng.integers(len(x), size=len(x))]
    found = [float(statistic(*map(draw, sets))) for _ in range(resamples)]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(*sets)), float(low), float(high))


def half_samples(
    statistic: Statistics, *sets: AnyArray, resamples: int = 200, level: float = 0.95, seed: int = 0
) -> Interval:
    """The statistic of the sets, with a normal interval from halves of the sets: the delete-half jackknife.

        statistic(*sets) -+ z s

    s is the standard deviation of the statistic over random halves of all sets, and z the normal quantile. If
    the variance falls as 1/n, halves drawn without replacement vary as much as new full sets would. No row
    occurs twice, so nearest neighbours stay valid. A bias that depends on n shifts all halves equally and
    does not move the interval, which is about the statistic's expectation at this n.

    Between sets of the same distribution, the variance of a squared distance falls as 1/n^2. The interval is
    then up to sqrt(3) times too wide, never too narrow.

    Args:
        statistic: function of the sets that returns a number or an array of numbers.
        *sets: arrays with rows first; all are halved.
        resamples: number of halves.
        level: probability that the interval is to cover.
        seed: seed of the resampling.

    Raises:
        ValueError: as `interval` does, and for sets of fewer than 4 rows.

    Source: Shao & Wu 1989.
    """
    _check(level, resamples, sets, 4)
    rng = np.random.default_rng(seed)
    draw = lambda x: np.asarray(x)[np.sort(rng.permutation(len(x))[: len(x) // 2])]
    spread = np.std([statistic(*map(draw, sets)) for _ in range(resamples)], axis=0, ddof=1)
    value, reach = np.asarray(statistic(*sets), float), ndtri((1 + level) / 2) * spread
    plain = (lambda x: x) if value.ndim else float
    return Interval(plain(value), plain(value - reach), plain(value + reach))


def over_blocks(
    statistic: Statistic, *sets: AnyArray, blocks: int = 10, level: float = 0.95, seed: int = 0
) -> Interval:
    """Mean of the statistic over disjoint blocks of the sets, with the t-interval of this mean.

    The sets are shuffled, and block i holds part i of each set. Every example is used once, so a statistic of
    all pairs costs 1/blocks of its full price. The mean is right for unbiased statistics such as kid and mmd
    (Binkowski et al. 2018 report KID this way). Other statistics have the bias of a block's size.

    Args:
        statistic: function of the sets that returns a number.
        *sets: arrays with rows first.
        blocks: number of blocks.
        level: probability that the interval is to cover.
        seed: seed of the shuffling.

    Raises:
        ValueError: unless blocks >= 2, 0 < level < 1 and each set has 2 rows for each block.
    """
    if blocks < 2:
        raise ValueError(f"blocks = {blocks} must be at least 2")
    _check(level, blocks, sets, 2 * blocks)
    rng = np.random.default_rng(seed)
    parts = [np.array_split(rng.permutation(len(x)), blocks) for x in sets]
    values = [
        statistic(*(np.asarray(x)[rows] for x, rows in zip(sets, block, strict=True)))
        for block in zip(*parts, strict=True)
    ]
    mean, _, low, high = over_seeds(values, level=level)
    return Interval(mean, low, high)


def over_seeds(values: Sequence[float] | Float[AnyArray, "n"], *, level: float = 0.95) -> Seeds:
    """Mean and standard deviation of independent values, with the t-interval of the mean.

        mean -+ t sd / sqrt(n)

    t is the quantile of Student's distribution with n - 1 degrees of freedom, 4.3 for three values. Each
    value comes from a training with its own seed. Report this for a recipe, never the best value. A value
    that is not finite makes all results non-finite.

    Raises:
        ValueError: for fewer than 2 values, or unless 0 < level < 1.
    """
    values = np.asarray(values, float)
    _check(level, 2, [values], 2)
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    reach = float(stdtrit(len(values) - 1, (1 + level) / 2)) * sd / len(values) ** 0.5
    return Seeds(mean, sd, mean - reach, mean + reach)


def _check(level: float, resamples: int, sets: Sequence[AnyArray], least: int) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level = {level} must lie between 0 and 1")
    if resamples < 2:
        raise ValueError(f"resamples = {resamples} must be at least 2")
    if not sets or min(map(len, sets)) < least:
        raise ValueError(f"sets of {[len(x) for x in sets]} rows: at least {least} are needed")

"""Intervals: how far a number would move with other samples, and with other training seeds.

Which one is right depends on the statistic:

    interval      means of values per example: the bootstrap (the share of samples with a mode; precision,
                  recall, density and coverage by the values they are means of)
    half_samples  what a bootstrap gets wrong: distances between sets, and nearest neighbours
    over_blocks   statistics without bias that are dear, as kid is: of large sets
    over_seeds    what a recipe gives: of a few trainings, each with its own value

The first three resample samples and data, of one trained model: how much training again would change
they do not say. A bootstrap draws examples with replacement, of which 37 % do not come and many come twice.
Twice the same example has a distance of 0 to itself: nearest neighbours are too near, balls too small,
and a kernel's mean over different examples has equal ones in it. A Frechet distance or class_kl is biased by
about 1/n, and the bootstrap adds the same bias once more. Where two sets are nearly of one distribution
its percentiles need not even contain the value. Hence:

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
    """A value, and what it lies between at the level asked for; arrays of them where a statistic is many."""

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
    """statistic(*sets), and the percentiles of it over sets drawn from these with replacement.

    The percentile bootstrap (Efron & Tibshirani 1993, chapter 13): each set is a new draw of as many
    of its own rows. For means; not for nearest neighbours or distances between sets, see above. The mean of
    values per example, such as `balls(...) > 0`, stands for new samples with the balls as they are: new
    data would move them too. Raises ValueError unless resamples >= 2, 0 < level < 1 and no set is empty.
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
    """statistic(*sets) -+ z s, s its standard deviation over halves of all sets, drawn without replacement.

    The delete-half jackknife (Shao & Wu 1989): what half of the rows, drawn without replacement, differ
    from one draw to the next is as much as all of the rows differ from one set to another, for a
    variance that falls as 1/n. No row comes twice, so that nearest neighbours stay true; and a bias that
    depends on n shifts all halves alike and not the interval, which is about the statistic's expectation
    at the n at hand (a Frechet distance's, say, which falls with n). Between sets of one distribution the
    variance of a squared distance falls as 1/n^2: the interval is then up to sqrt(3) times too wide, never
    too narrow. A statistic of several numbers has an interval of arrays: all of the same halves. Raises
    ValueError as `interval`, and for sets of fewer than 4 rows.
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
    """The mean of the statistic over disjoint blocks of the sets, and the t-interval of that mean.

    The i-th block has the i-th part of each set, after shuffling; each example is looked at once, which costs
    1/blocks of a statistic of all pairs. Right for statistics without bias, as kid and mmd are (Binkowski et
    al. 2018 report KID so); others have the bias of a block's size. Raises ValueError unless
    2 <= blocks and each set has 2 rows a block.
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
    """mean -+ t sd / sqrt(n), t the quantile of Student's distribution with n - 1 degrees of freedom.

    Of values that came about independently, each by a training with its own seed: what to report of a recipe,
    never the best of them. Of three t is 4.3. Values that are not finite make all not finite. Raises
    ValueError for fewer than 2 and unless 0 < level < 1.
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

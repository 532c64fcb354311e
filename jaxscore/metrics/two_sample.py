"""Two-sample test: whether a classifier can tell two sets of draws apart.

>>> rng = np.random.default_rng(0)
>>> exact, learnt, shifted = rng.standard_normal((3, 100, 1))
>>> c2st(exact, learnt).z < 3
True
>>> c2st(exact, shifted + 2).z > 5                                       # the best accuracy is 0.84
True
"""

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Num

from jaxscore.metrics.numbers import real
from jaxscore.types import AnyArray

OUTLYING = 100
"""Typical deviations from the median beyond which a value is an outlier for `c2st`."""


class C2ST(NamedTuple):
    """Held-out accuracy of a classifier that tells two sets apart; see `c2st`."""

    accuracy: float
    """Fraction of rows that are classified correctly; 0.5 for sets from one distribution."""
    error: float
    """Upper estimate of the standard error of `accuracy` for sets from one distribution, 1 / sqrt(4 n)."""
    z: float
    """(accuracy - 0.5) / error."""


def c2st(x: Num[AnyArray, "n d"], y: Num[AnyArray, "n d"], *, folds: int = 5, seed: int = 0) -> C2ST:
    """Classifier two-sample test: held-out accuracy of a network that tells draws x from draws y.

    Sets from one distribution have an accuracy of 0.5 on average; sets without overlap have an accuracy of 1.
    The best accuracy for N(0, I) and N(shift, I) is Phi(|shift| / 2). For one distribution, the standard
    error would be 1 / sqrt(8 n) if folds were independent. Folds share training rows, so pairs of rows count
    twice, and the standard error may reach `error` = 1 / sqrt(4 n). Measured values lie in between.

    The network has two hidden layers of 10 d ReLU units, which Adam trains for at most 1000 epochs. Columns
    are standardised by mean and standard deviation of x. The accuracy is the mean over shuffled folds. Two
    details differ from the source. Each fold has equally many rows of both sets; otherwise the mean accuracy
    for one distribution is below 0.5. A column with a value farther than OUTLYING typical deviations from the
    median first passes through arcsinh, so that ordinary values do not coincide.

    Args:
        x: draws from the exact posterior.
        y: as many draws from the posterior that is judged.
        folds: number of folds.
        seed: seed of the folds and of the network.

    Raises:
        ImportError: if scikit-learn is not installed.
        ValueError: if the shapes differ, x and y are the same rows, a number is not finite, or there are
            fewer than two rows per fold.

    Source: Lueckmann et al. 2021.
    """
    x, y = real(x, "x"), real(y, "y")
    if x.ndim != 2 or x.shape != y.shape or x.shape[1] < 1:
        raise ValueError(f"x has shape {x.shape} and y has shape {y.shape}; both must be [n, d]")
    if folds < 2 or len(x) < 2 * folds:
        raise ValueError(f"{len(x)} rows and {folds} folds: at least 2 folds of 2 rows are needed")
    bad = sum(int(np.sum(~np.isfinite(each).all(axis=1))) for each in (x, y))
    if bad:
        raise ValueError(f"{bad} of {2 * len(x)} rows have values that are not finite")
    if np.array_equal(x, y):
        raise ValueError("x and y are the same rows; give draws that are independent of each other")
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.model_selection import StratifiedKFold, cross_val_score
        from sklearn.neural_network import MLPClassifier
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise ImportError("the classifier is scikit-learn's: pip install 'jaxscore[metrics]'") from None

    labels, units = np.repeat([0, 1], len(x)), 10 * x.shape[1]
    network = MLPClassifier((units, units), max_iter=1000, random_state=seed)
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
    # The matrices are so small that more threads are slower.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        accuracy = float(np.mean(cross_val_score(network, _standardised(x, y), labels, cv=parts)))
    error = float(np.sqrt(0.25 / len(x)))
    return C2ST(accuracy, error, (accuracy - 0.5) / error)


def _standardised(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rows of x and y, in standard deviations of x from the mean of x; see `c2st`."""
    rows = np.concatenate([x, y]) - np.median(x, axis=0)
    typical = _typical(rows[: len(x)])
    typical = np.where(typical > 0, typical, _typical(rows))
    rows = rows / np.where(typical > 0, typical, 1)
    rows = np.where(np.abs(rows).max(axis=0) > OUTLYING, np.arcsinh(rows), rows)
    mean, std = rows[: len(x)].mean(axis=0), rows[: len(x)].std(axis=0)
    return (rows - mean) / np.where(std > 0, std, 1)


def _typical(deviations: np.ndarray) -> np.ndarray:
    """Median size of the deviations that are not 0, for each column; 0 if all are 0."""
    # The median of all deviations is 0 if most values of a column are equal.
    return np.array([np.median(a[a > 0]) if a.any() else 0.0 for a in np.abs(deviations).T])

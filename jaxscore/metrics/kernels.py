"""Maximum mean discrepancy: the largest difference of the means of two sets, over the functions of a kernel.

The estimates are unbiased: their mean is 0 for two sets of the same distribution, so they can be negative.
All functions take NumPy or JAX arrays [n, d], compute in float64 in blocks, and return a float.

>>> a, b = np.random.default_rng(0).standard_normal((2, 500, 4))
>>> abs(kid(a, b)) < 0.1 < kid(a, b + 1)
True
>>> abs(mmd(a, b)) < 0.01 < mmd(a, b + 1, widths=(0.5, 1.0, 2.0))
True
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import pdist

from jaxscore.types import AnyArray

BLOCK = 1024
"""Rows and columns of a block of the kernel's matrix."""

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def kid(a: Float[AnyArray, "n d"], b: Float[AnyArray, "m d"]) -> float:
    """Squared discrepancy for the kernel (x.y / d + 1)^3: KID, if the features are Inception's.

    It is an unbiased estimate for every n, unlike a Frechet distance. Use `over_blocks` or `half_samples` for
    an interval.

    Raises:
        ValueError: for fewer than 2 examples in a set.

    Source: Binkowski et al. 2018, section 4.
    """
    return _discrepancy(a, b, lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3)


def mmd(
    a: Float[AnyArray, "n d"], b: Float[AnyArray, "m d"], *, widths: Sequence[float] | None = None
) -> float:
    """Squared discrepancy for a sum of Gaussian kernels.

        k(x, y) = sum_w exp(-|x - y|^2 / (2 w^2)),    w in `widths`

    A sum over several widths detects differences of several sizes. Without widths, the only width is
    `median_distance`. To compare several models, give the same widths to all.

    Raises:
        ValueError: for fewer than 2 examples in a set, or unless all widths are positive.

    Source: Gretton et al. 2012, equation 3.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    widths = (median_distance(a, b),) if widths is None else tuple(widths)
    if not widths or min(widths) <= 0:
        raise ValueError(f"widths {widths} must be positive")
    centre = b.mean(axis=0)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        squared = np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1)[None] - 2 * x @ y.T
        squared = np.maximum(squared, 0)
        return sum(np.exp(-squared / (2 * width**2)) for width in widths)

    return _discrepancy(a - centre, b - centre, kernel)


def median_distance(a: Float[AnyArray, "n d"], b: Float[AnyArray, "m d"], *, most: int = 1000) -> float:
    """Median distance between two points of the union of a and b: a width for `mmd`.

    If a set has more than `most` points, at most that many of its points are used, evenly spaced in their
    order.

    Source: Gretton et al. 2012, section 8.
    """
    some = [x[:: -(-len(x) // most)] for x in (np.asarray(a, float), np.asarray(b, float))]
    return float(np.median(pdist(np.concatenate(some))))


def _discrepancy(a: AnyArray, b: AnyArray, kernel: Kernel) -> float:
    """E k(a, a') + E k(b, b') - 2 E k(a, b), over pairs of different examples (equation 3)."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    n, m = len(a), len(b)
    if min(n, m) < 2:
        raise ValueError(f"{n} and {m} examples: a discrepancy needs at least 2 of each")
    within = _total(a, a, kernel, own=True) / (n * (n - 1)) + _total(b, b, kernel, own=True) / (m * (m - 1))
    return float(within - 2 * _total(a, b, kernel) / (n * m))


def _total(a: np.ndarray, b: np.ndarray, kernel: Kernel, *, own: bool = False) -> float:
    """Sum of the kernel over all pairs; with `own`, over pairs of different examples of one set."""
    total = 0.0
    for i in range(0, len(a), BLOCK):
        for j in range(i if own else 0, len(b), BLOCK):
            values = kernel(a[i : i + BLOCK], b[j : j + BLOCK])
            if own and i == j:
                total += values.sum() - np.trace(values)
            else:
                total += values.sum() * (2 if own else 1)  # twice for the part below the diagonal
    return float(total)

"""Maximum mean discrepancy: how far apart two sets lie for all functions of a kernel at once.

Unbiased: 0 on average for two sets of one distribution, and as often below as above. All take NumPy or JAX
arrays [n, d], compute in float64 in blocks, and return a float.

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
"""Rows and columns of the kernel's matrix at a time."""

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def kid(a: Float[AnyArray, "n d"], b: Float[AnyArray, "m d"]) -> float:
    """The squared discrepancy for the kernel (x.y / d + 1)^3.

    Binkowski et al. 2018, section 4 (there with Inception features: the kernel Inception distance, KID).
    It has no bias that would depend on n, as a Frechet distance has. An interval is that of
    `bootstrap.over_blocks`, or `half_samples`. Raises ValueError for fewer than 2 examples.
    """
    return _discrepancy(a, b, lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3)


def mmd(
    a: Float[AnyArray, "n d"], b: Float[AnyArray, "m d"], *, widths: Sequence[float] | None = None
) -> float:
    """The squared discrepancy for the kernel sum_w exp(-|x - y|^2 / (2 w^2)), w in `widths`.

    Gretton et al. 2012, equation 3. A sum over widths sees differences of several sizes; without widths,
    the one of `median_distance`. For comparisons of several models give the same widths to all. Raises
    ValueError for fewer than 2 examples, and unless the widths are positive.
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
    """The median distance between two of all points, a's and b's: a width for `mmd`.

    Gretton et al. 2012, section 8. Of sets larger than `most`, that many points evenly spaced in their order.
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
    """The sum of the kernel over all pairs; of one set, over pairs of different examples."""
    total = 0.0
    for i in range(0, len(a), BLOCK):
        for j in range(i if own else 0, len(b), BLOCK):
            values = kernel(a[i : i + BLOCK], b[j : j + BLOCK])
            if own and i == j:
                total += values.sum() - np.trace(values)
            else:
                total += values.sum() * (2 if own else 1)  # with what lies below the diagonal
    return float(total)

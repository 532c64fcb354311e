"""Distances between two sets: of features, of points, of class labels.

All functions take NumPy or JAX arrays, compute with NumPy in float64, and return a float. The caller passes
the features. Report the network that made them, the number of examples and the rounding of the pixels with
every Frechet distance, because it depends on all three.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.special import rel_entr

from jaxscore.types import AnyArray


def frechet(a: Float[AnyArray, "n d"], b: Float[AnyArray, "m d"]) -> float:
    """Frechet distance between the Gaussians fitted to a and b.

        |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))

    With Inception features this is the FID. The trace of the root is the sum of the singular values of
    C_a^(1/2) C_b^(1/2), which exist for singular covariances too.

    Raises:
        ValueError: for fewer than 2 examples.

    Source: Heusel et al. 2017, equation 6.
    """
    return frechet_of_gaussians(*gaussian(a), *gaussian(b))


def frechet_of_gaussians(
    mean_a: Float[AnyArray, "d"],
    covariance_a: Float[AnyArray, "d d"],
    mean_b: Float[AnyArray, "d"],
    covariance_b: Float[AnyArray, "d d"],
) -> float:
    """Frechet distance between two Gaussians of the same dimension; see `frechet`."""
    mean_a, mean_b = np.asarray(mean_a, float), np.asarray(mean_b, float)
    root_a, root_b = _root(covariance_a), _root(covariance_b)
    overlap = np.linalg.svd(root_a @ root_b, compute_uv=False).sum()
    distance = np.sum((mean_a - mean_b) ** 2) + np.sum(root_a**2) + np.sum(root_b**2) - 2 * overlap
    return float(max(distance, 0.0))


def gaussian(x: Float[AnyArray, "n d"]) -> tuple[Float[np.ndarray, "d"], Float[np.ndarray, "d d"]]:
    """Mean and unbiased covariance (divisor n - 1) of the rows, in float64.

    Raises:
        ValueError: for fewer than 2 examples.
    """
    x = np.asarray(x, float)
    if len(x) < 2:
        raise ValueError(f"{len(x)} examples: a covariance needs at least 2")
    return x.mean(axis=0), np.cov(x, rowvar=False).reshape(x.shape[1], x.shape[1])


def sliced_wasserstein(
    a: Float[AnyArray, "n d"], b: Float[AnyArray, "m d"], *, directions: int = 256, seed: int = 0
) -> float:
    """Sliced Wasserstein-2 distance, in units of the points.

        sqrt(mean_u W_2(u.a, u.b)^2),    u random unit vectors

    This is the root mean square of one-dimensional distances. The quantiles of the two projected sets are
    compared at max(n, m) levels, so the sets may have different sizes.

    Args:
        a: points [n, d].
        b: points [m, d].
        directions: number of directions.
        seed: seed of the directions.

    Raises:
        ValueError: if directions < 1.

    Source: Bonneel et al. 2015, equation 8.
    """
    if directions < 1:
        raise ValueError(f"directions = {directions} must be at least 1")
    a, b = np.asarray(a, float), np.asarray(b, float)
    u = np.random.default_rng(seed).standard_normal((a.shape[1], directions))
    u /= np.linalg.norm(u, axis=0)
    n = max(len(a), len(b))
    levels = (np.arange(n) + 0.5) / n

    def quantiles(x):
        rank = np.ceil(levels * len(x)).astype(int) - 1
        return np.sort(x @ u, axis=0)[rank]

    return float(np.sqrt(np.mean((quantiles(a) - quantiles(b)) ** 2)))


def class_kl(labels: Int[AnyArray, "n"], reference: Int[AnyArray, "m"]) -> float:
    """KL(p || q) in nats, where p and q are the class frequencies of `labels` and of `reference`.

    The result is infinite if a class occurs in `labels` but not in `reference`.
    """
    labels, reference = np.asarray(labels), np.asarray(reference)
    classes, number = np.unique(np.concatenate([labels, reference]), return_inverse=True)
    p = np.bincount(number[: len(labels)], minlength=len(classes)) / len(labels)
    q = np.bincount(number[len(labels) :], minlength=len(classes)) / len(reference)
    return float(np.sum(rel_entr(p, q)))


def _root(covariance: AnyArray) -> np.ndarray:
    """Symmetric square root; eigenvalues below zero are rounding errors."""
    values, vectors = np.linalg.eigh(np.asarray(covariance, float))
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T

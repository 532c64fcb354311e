"""Figures of restored images: errors of single draws and of their mean, and calibration pixel by pixel."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxscore import metrics

LEVELS = (0.5, 0.8, 0.95)
"""Probabilities of the central intervals whose coverage is measured."""

GREY = 255
"""Draws and truths are compared in grey levels, as images are stored."""

SPREAD = 1.0
"""Grey levels: pixels whose draws have at least this standard deviation are also judged by themselves."""


def judged(truths: np.ndarray, found: np.ndarray, features: Callable | None) -> dict[str, Any]:
    """Returns the figures of draws found[n, k, h, w, c] of images truths[n, h, w, c], both in 0..1.

        psnr, ssim       of the mean of the draws; means over the images, and the standard error of psnr
        psnr_of_draws    of a single draw
        features         distance of a draw from the truth in the features, a mean
        coverage         fraction of the pixels inside the central interval of each level
        coverage_spread  the same for pixels whose draws have a spread; None if there are none

    A pixel is inside the interval by its rank among its draws. Ties are broken at random, so that pixels
    which are certain, such as a black background, are covered as often as they should be.
    """
    mean, (n, k, *event) = found.mean(axis=1), found.shape
    of_mean = metrics.psnr(mean, truths)
    row = {"psnr": of_mean.mean(), "psnr_error": of_mean.std(ddof=1) / n**0.5 if n > 1 else None}
    row["ssim"] = metrics.ssim(mean, truths).mean()
    flat, repeated = found.reshape(n * k, *event), np.repeat(truths, k, axis=0)
    row["psnr_of_draws"] = metrics.psnr(flat, repeated).mean()
    if features is not None:
        row["features"] = np.linalg.norm(features(flat) - features(repeated), axis=1).mean()
    row = {name: None if value is None else float(value) for name, value in row.items()}
    grey = lambda x: np.round(GREY * x).reshape(*x.shape[: x.ndim - len(event)], -1)
    truth, draws = grey(truths), grey(found)
    if k == 1 or not np.ptp(draws, axis=1).any():
        return row | {"coverage": None, "coverage_spread": None}
    ranks = metrics.sbc_ranks(truth, draws)
    wide = draws.std(axis=1) >= SPREAD
    row["coverage"] = _coverage(ranks.ravel())
    return row | {"coverage_spread": _coverage(ranks[wide]) if wide.any() else None}


def _coverage(ranks: np.ndarray) -> list[float]:
    return np.asarray(metrics.coverage_at(ranks, LEVELS, central=True).fraction, float).tolist()

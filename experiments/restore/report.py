"""Table and picture of restored images."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.restore.judge import LEVELS
from jaxscore.launch import console, plots

IMAGES, DRAWS, SPREAD = 3, 3, 3
"""Images in the picture, draws of each, and the factor of the standard deviation."""


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Returns a line for each method; coverage is that of pixels with a spread, and of all in brackets."""
    levels = [f"{level:.0%} covers" for level in LEVELS]
    figures = ("PSNR of mean", "SSIM of mean", "PSNR of draws", "feature distance", "s per draw")
    heading = ("method", *figures, *levels)
    lines = [heading]
    for name, row in rows.items():
        error = "" if row["psnr_error"] is None else f" ± {row['psnr_error']:.2f}"
        features = f"{row['features']:.2f}" if "features" in row else ""
        values = (f"{row['psnr']:.2f}{error}", f"{row['ssim']:.3f}", f"{row['psnr_of_draws']:.2f}", features)
        lines.append((name, *values, f"{row['seconds']:.4f}", *_covers(row)))
    return console.table(lines)


def _covers(row: dict[str, Any]) -> list[str]:
    if row["coverage"] is None:
        return [""] * len(LEVELS)
    spread = row["coverage_spread"] or [None] * len(LEVELS)
    one = lambda value: "–" if value is None else f"{value:.1%}"
    return [f"{one(some)} ({one(all_)})" for some, all_ in zip(spread, row["coverage"], strict=True)]


def picture(
    images: np.ndarray, measured: np.ndarray, found: dict[str, np.ndarray], rows: dict[str, Any], path: Path
) -> None:
    """Draws a few images side by side: truth and measurement, then draws, mean and spread of each method.

    A measurement is shown as an image, see `shown` in run.py.
    """
    n, blank = min(IMAGES, len(images)), np.full(images[:1].shape, 0.5)
    first = lambda i: [images[i], measured[i], *np.repeat(blank, DRAWS, axis=0)]
    grid, names = [[panel for i in range(n) for panel in first(i)]], ["truth, measured"]
    for name, x in found.items():
        spread = lambda i, x=x: np.clip(SPREAD * x[i].std(axis=0), 0, 1)
        panels = lambda i, x=x, spread=spread: [
            *np.resize(x[i], (DRAWS, *x.shape[2:])),
            x[i].mean(axis=0),
            spread(i),
        ]
        grid.append([panel for i in range(n) for panel in panels(i)])
        names.append(f"{name}, {rows[name]['psnr']:.1f} dB")
    stacked = np.stack([panel for line in grid for panel in line])
    size = 0.62 * len(grid[0])
    with plots.page(path, columns=1, size=1.8 + size, height=0.62 * len(grid) + 0.5) as (axes,):
        columns = n * [*(DRAWS * ["draw"]), "mean", f"{SPREAD} std"]
        plots.images(axes, stacked, rows=len(grid), names=names, columns=columns)

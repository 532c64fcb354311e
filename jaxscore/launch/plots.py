"""Pictures, drawn with matplotlib into files; no screen is needed."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxscore.types import AnyArray

BLUE, ORANGE, GREY = "#1f5fa8", "#e0822f", "#555555"

MOST_CHANNELS = 9
"""Channels of an image that are drawn in grey, at most."""


@contextlib.contextmanager
def page(
    path: Path, *, columns: int, rows: int = 1, size: float = 4.0, height: float | None = None
) -> Iterator[list[Axes]]:
    """Axes in rows and columns, each `size` inches wide; leaving the context writes the file.

    Args:
        path: path of the picture.
        columns: number of columns.
        rows: number of rows.
        size: width of the axes in inches.
        height: height of the axes in inches; by default `size`.
    """
    figure = Figure(figsize=(columns * size, rows * (height or size)), layout="constrained")
    FigureCanvasAgg(figure)
    yield list(figure.subplots(rows, columns, squeeze=False).flat)
    figure.savefig(path, dpi=110)


def points(axes: Axes, x: AnyArray, title: str, *, reach: float = 6.0) -> None:
    """Plots points in the plane."""
    size = max(2, min(20, 2000 / max(len(x), 1)))  # few points must be seen, too
    axes.scatter(x[:, 0], x[:, 1], s=size, alpha=0.4, color=BLUE, linewidths=0)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.set_title(title, fontsize=10)


def fields(axes: Axes, at: AnyArray, learned: AnyArray, exact: AnyArray, title: str) -> None:
    """Plots two vector fields at the same points, the learned one in thin arrows over the exact one."""
    at, learned, exact = (np.asarray(a) for a in (at, learned, exact))
    scale = 18 * np.abs(exact).max()
    axes.quiver(*at.T, *exact.T, color=ORANGE, width=0.007, scale=scale)
    axes.quiver(*at.T, *learned.T, color=BLUE, width=0.0025, scale=scale)
    axes.set(aspect="equal")
    axes.set_title(title, fontsize=10)


def loss(axes: Axes, history: Sequence[dict]) -> None:
    """Draws the loss against the step, in each bin of noise levels if the log has them.

    Lines of the log that cover fewer steps than most, as before and after an interruption, are averaged.
    """
    history = _even([row for row in history if row.get("loss") is not None])  # None: all steps were skipped
    steps, edges = [row["step"] for row in history], history[-1].get("sigma_edges") if history else None
    if edges is None:
        axes.plot(steps, [row["loss"] for row in history], color=BLUE)
        axes.set(xlabel="step", ylabel="loss", title="loss")
        return
    edges = [0.0, *edges, np.inf]
    for number, shade in enumerate(np.linspace(0.1, 0.95, len(edges) - 1)):
        curve = [row["loss_by_sigma"][number] for row in history]
        curve = [np.nan if value is None else value for value in curve]
        low, high = edges[number : number + 2]
        label = f"{low:g} < σ ≤ {high:g}" if np.isfinite(high) else f"σ > {low:g}"
        axes.plot(steps, curve, color=(shade, 0.35, 1 - shade), label=label)
    axes.set(xlabel="step", ylabel="loss per example", yscale="log")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    axes.set_title("loss by noise level", fontsize=10)


def _even(history: Sequence[dict]) -> list[dict]:
    """Returns the history with joined lines, until each covers at least half as many steps as most do."""
    steps = np.diff([0, *(row["step"] for row in history)]).tolist()
    usual, joined, waiting = np.median(steps) if history else 0, [], []
    for row, n in zip(history, steps, strict=True):
        waiting.append((row, n))
        if sum(n for _, n in waiting) >= usual / 2:
            joined.append(_mean(waiting))
            waiting = []
    return joined  # without the last line, if it covers too few steps


def _mean(parts: list[tuple[dict, int]]) -> dict:
    """Returns the last line with the mean losses of all lines, weighted by the numbers of their steps."""
    if len(parts) == 1:
        return parts[0][0]

    def mean(values: list[float | None]) -> float | None:
        known = [(value, n) for value, (_, n) in zip(values, parts, strict=True) if value is not None]
        return sum(value * n for value, n in known) / sum(n for _, n in known) if known else None

    last = dict(parts[-1][0], loss=mean([row["loss"] for row, _ in parts]))
    if "loss_by_sigma" in last:
        bins = zip(*(row["loss_by_sigma"] for row, _ in parts), strict=True)
        last["loss_by_sigma"] = [mean(list(values)) for values in bins]
    return last


def examples(axes: Axes, x: AnyArray, title: str) -> None:
    """Draws examples [n, ...]: 64 images, points of the plane, or else numbers as curves."""
    x = np.asarray(x)
    if x.ndim == 4:
        images(axes, x[:64], rows=8, title=title)
    elif x.ndim == 2 and x.shape[1] == 2:
        points(axes, x[:2000], title, reach=1.1 * float(np.quantile(np.abs(x), 0.995)))
    else:
        axes.plot(x[:64].reshape(len(x[:64]), -1).T, color=BLUE, alpha=0.3, linewidth=0.8)
        axes.set_title(title, fontsize=10)


def images(
    axes: Axes,
    x: AnyArray,
    *,
    rows: int,
    title: str = "",
    names: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> None:
    """Plots a grid of images [n, h, w, c] in 0..1, row by row; lines between them are grey.

    The title says how images are drawn that have neither 1 nor 3 channels (`visible`). `names` has a name for
    each row, which is written on its left, and `columns` one for each column, which is written above it.
    """
    x, note = visible(x)
    n, h, w, c = x.shape
    across = -(-n // rows)
    x = np.pad(np.clip(x, 0, 1), ((0, rows * across - n), (0, 0), (0, 0), (0, 0)), constant_values=0.5)
    x = x.reshape(rows, across, h, w, c)
    x = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0)), constant_values=0.5)
    tiled = x.transpose(0, 2, 1, 3, 4).reshape(rows * (h + 1), across * (w + 1), c)[:-1, :-1]
    axes.imshow(tiled.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.spines[:].set_visible(False)
    axes.set_xticks((w + 1) * np.arange(len(columns)) + w / 2, columns, fontsize=7)
    axes.xaxis.tick_top()
    axes.set_yticks((h + 1) * np.arange(len(names)) + h / 2, names)
    axes.tick_params(length=0)
    axes.set_title("\n".join(filter(None, (title, note))), fontsize=10)


def visible(x: AnyArray) -> tuple[np.ndarray, str]:
    """Returns images [n, h, w, 1 or 3] that show x [n, h, w, c], and a note on what they show.

    With 4 channels the first three are drawn as colours, because the fourth is usually alpha. With 2, or with
    more than 4, the first MOST_CHANNELS are drawn in grey, one beside the other, in a square.
    """
    n, h, w, c = np.shape(x)
    if c in (1, 3):
        return np.asarray(x), ""
    if c == 4:
        return np.asarray(x)[..., :3], "(the first three of 4 channels, as colours)"
    shown = min(c, MOST_CHANNELS)
    columns = int(np.ceil(shown**0.5))
    rows = -(-shown // columns)
    x = np.pad(x[..., :shown], ((0, 0),) * 3 + ((0, rows * columns - shown),), constant_values=0.5)
    x = x.reshape(n, h, w, rows, columns).transpose(0, 3, 1, 4, 2)
    which = f"{c} channels" if shown == c else f"first {shown} of {c} channels"
    return x.reshape(n, rows * h, columns * w, 1), f"(the {which} of each image, in grey)"


def pairs(axes: Axes, above: AnyArray, below: AnyArray, *, columns: int = 12, title: str = "") -> None:
    """Plots images [n, h, w, c] in rows, each with its partner below; missing images are grey."""
    rows = -(-len(above) // columns)
    filled = np.full((2, rows * columns, *above.shape[1:]), 0.5)
    filled[:, : len(above)] = above, below
    filled = filled.reshape(2, rows, columns, *above.shape[1:]).swapaxes(0, 1)
    images(axes, filled.reshape(-1, *above.shape[1:]), rows=2 * rows, title=title)

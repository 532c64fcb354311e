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
    axes.scatter(x[:, 0], x[:, 1], s=2, alpha=0.4, color=BLUE, linewidths=0)
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
    """Draws the loss against the step, in each bin of noise levels if the log has them."""
    history = [row for row in history if row.get("loss") is not None]  # None where all steps were skipped
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


def images(axes: Axes, x: AnyArray, *, rows: int, title: str = "") -> None:
    """Plots a grid of images [n, h, w, c] in 0..1, row by row; missing images are grey."""
    n, h, w, c = x.shape
    columns = -(-n // rows)
    x = np.pad(np.clip(x, 0, 1), ((0, rows * columns - n), (0, 0), (0, 0), (0, 0)), constant_values=0.5)
    x = x.reshape(rows, columns, h, w, c)
    x = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0)), constant_values=0.5)
    tiled = x.transpose(0, 2, 1, 3, 4).reshape(rows * (h + 1), columns * (w + 1), c)
    axes.imshow(tiled.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)


def pairs(axes: Axes, above: AnyArray, below: AnyArray, *, columns: int = 12, title: str = "") -> None:
    """Plots images [n, h, w, c] in rows, each with its partner below; missing images are grey."""
    rows = -(-len(above) // columns)
    filled = np.full((2, rows * columns, *above.shape[1:]), 0.5)
    filled[:, : len(above)] = above, below
    filled = filled.reshape(2, rows, columns, *above.shape[1:]).swapaxes(0, 1)
    images(axes, filled.reshape(-1, *above.shape[1:]), rows=2 * rows, title=title)

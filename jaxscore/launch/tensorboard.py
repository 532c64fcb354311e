"""TensorBoard's events of a run, in the folder `tensorboard`: an option beside metrics.jsonl and the page."""

import itertools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

FOLDER = "tensorboard"
"""The folder of the events in the run's folder."""
MOST_NUMBERS = 100_000
"""Numbers of an array, at most, that its histogram is made of."""


class Events:
    """The events of one process in a folder. Needs tensorboardX, the extra `tensorboard`."""

    def __init__(self, folder: Path):
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def row(self, row: dict[str, Any]) -> None:
        """Writes the numbers of a line of metrics.jsonl; a loss by level is named by the ends of its bin."""
        flat = [(name, value) for name, value in row.items() if isinstance(value, float)]
        edges = ["0", *(f"{edge:g}" for edge in row.get("sigma_edges", ())), "inf"]
        bins = zip(itertools.pairwise(edges), row.get("loss_by_sigma", ()), strict=False)
        flat += [(f"loss_by_sigma/{low}_to_{high}", v) for (low, high), v in bins if v is not None]
        for name, value in flat:
            self.writer.add_scalar(name, value, row["step"])

    def picture(self, name: str, path: Path, step: int) -> None:
        """Writes the picture in the file."""
        with Image.open(path) as image:
            self.writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def histograms(self, params: Any, step: int) -> None:
        """Writes a histogram of every array of the parameters, from every k-th of its numbers."""
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            numbers = np.asarray(leaf, np.float32).ravel()
            numbers = numbers[:: -(-len(numbers) // MOST_NUMBERS) or 1]
            finite = numbers[np.isfinite(numbers)]
            if len(finite):
                name = jax.tree_util.keystr(path, simple=True, separator="/")
                self.writer.add_histogram(f"histograms/{name}", finite, step)

    def close(self) -> None:
        """Writes what is pending."""
        self.writer.close()

"""TensorBoard's events of a run, in the folder `tensorboard`: an option beside metrics.jsonl and the page."""

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxscore.launch import console

FOLDER = "tensorboard"
"""The folder of the events in the run's folder."""
MOST_NUMBERS = 100_000
"""Numbers of an array, at most, that its histogram is made of."""
BINS = 64
"""Bins of a histogram."""


class Events:
    """The events of one process in a folder. Needs tensorboardX, the extra `tensorboard`.

    tensorboardX's own SummaryWriter writes in a thread. If the disk is full, the thread ends, and the run
    would wait for it for ever. Here an error of the disk ends the events, and the run goes on.
    """

    def __init__(self, folder: Path):
        from tensorboardX import event_file_writer, summary
        from tensorboardX.proto import event_pb2

        self.summary, self.event = summary, event_pb2.Event
        self.folder, self.file = folder, None
        name = f".{os.getpid()}.{time.time_ns()}"  # two files of one second must not have one name
        with self._ending():
            folder.mkdir(parents=True, exist_ok=True)
            self.file = event_file_writer.EventsWriter(str(folder / "events"), name)

    def row(self, row: dict[str, Any]) -> None:
        """Writes the numbers of a line of metrics.jsonl; a loss by level is named by the ends of its bin."""
        numbers = lambda value: isinstance(value, int | float) and not isinstance(value, bool)
        flat = [(name, value) for name, value in row.items() if numbers(value) and name != "step"]
        edges = ["0", *(f"{edge:g}" for edge in row.get("sigma_edges", ())), "inf"]
        bins = zip(itertools.pairwise(edges), row.get("loss_by_sigma", ()), strict=False)
        flat += [(f"loss_by_sigma/{low}_to_{high}", v) for (low, high), v in bins if v is not None]
        self._write(row["step"], [self.summary.scalar(name, value) for name, value in flat])

    def picture(self, name: str, path: Path, step: int) -> None:
        """Writes the picture in the file."""
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._write(step, [self.summary.image(name, pixels, dataformats="HWC")])

    def histograms(self, params: Any, step: int) -> None:
        """Writes a histogram of every array of numbers, from every k-th of its numbers."""
        made = []
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            if not jnp.issubdtype(leaf.dtype, jnp.number):
                continue
            numbers = np.asarray(leaf, np.float64).ravel()
            numbers = numbers[:: -(-len(numbers) // MOST_NUMBERS) or 1]
            finite = numbers[np.isfinite(numbers)]
            with contextlib.suppress(ValueError):  # there are no bins, as for equal numbers of 1e25
                name = jax.tree_util.keystr(path, simple=True, separator="/")
                made.append(self.summary.histogram(f"histograms/{name}", finite, BINS))
        self._write(step, made)

    def close(self) -> None:
        """Closes the file."""
        with self._ending():
            if self.file:
                self.file.close()
        self.file = None

    def _write(self, step: int, summaries: list[Any]) -> None:
        with self._ending():
            for each in summaries if self.file else ():
                self.file.write_event(self.event(wall_time=time.time(), step=step, summary=each))
            if self.file:
                self.file.flush()

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """Within, an error of the operating system ends the events, with a line that says so."""
        try:
            yield
        except OSError as error:
            console.say(f"--tensorboard: no more events in {self.folder} ({error.strerror or error})")
            self.file = None

"""What a run shows: a progress bar on a terminal, plain lines anywhere else."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track

MUTED = False


def mute() -> None:
    """Show nothing from now on, but errors: another process of the run does."""
    global MUTED
    MUTED = True


class TrainingDisplay:
    """Loss, steps per second and time left; `update` it after every log interval.

    A context manager. On a terminal the bar also moves between the log intervals, by `advance`.
    """

    def __init__(self, step: int, steps: int):
        self.steps, self.step, self.since = steps, step, time.monotonic()
        self.bar = None
        if Console().is_terminal and not MUTED:
            columns = (
                TextColumn("train"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(
                    "loss {task.fields[loss]}  {task.fields[speed]} steps/s{task.fields[waited]}  left"
                ),
                TimeRemainingColumn(),
            )
            self.bar = Progress(*columns)
            self.task = self.bar.add_task(
                "train", total=steps, completed=step, loss="-", speed="-", waited=""
            )

    def __enter__(self):
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *exception):
        if self.bar:
            self.bar.stop()

    def advance(self, step: int) -> None:
        """Move the bar to `step`."""
        if self.bar:
            self.bar.update(self.task, completed=step)

    def update(self, step: int, loss: float, waited: float | None = None) -> float:
        """Show the loss of the steps since the last update, and the seconds that they waited for data.

        Returns their steps per second.
        """
        now = time.monotonic()
        elapsed = max(now - self.since, 1e-9)
        speed = (step - self.step) / elapsed
        share = "" if waited is None else f"  {waited / elapsed:.1%} waiting for data"
        self.step, self.since = step, now
        if self.bar:
            self.bar.update(self.task, completed=step, loss=f"{loss:.4f}", speed=f"{speed:.1f}", waited=share)
        elif not MUTED:
            left = (self.steps - step) / max(speed, 1e-9)
            print(
                f"step {step}/{self.steps}  loss {loss:.4f}  {speed:.1f} steps/s{share}  {left:.0f} s left",
                flush=True,
            )
        return speed


def in_turn(items: Sequence[Any], what: str, *, every: float = 10.0) -> Iterator[Any]:
    """The items, under a bar on a terminal; elsewhere a line tells how far it is, `every` seconds."""
    if Console().is_terminal and not MUTED:
        yield from track(items, what)
        return
    told = time.monotonic()
    for number, item in enumerate(items):
        if number and time.monotonic() - told >= every:
            told = time.monotonic()
            say(f"{what} {number}/{len(items)}")
        yield item


def say(text: str) -> None:
    """A line on standard output, at once."""
    if not MUTED:
        print(text, flush=True)


def complain(text: str) -> None:
    """A line on standard error."""
    print(f"error: {text}", file=sys.stderr, flush=True)


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows of text in aligned columns, the first a heading; numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    align = lambda row: "  ".join(
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    lines = [align(row).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(align(rows[0])), *lines[1:]])


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Within, nothing is shown but errors."""
    global MUTED
    before, MUTED = MUTED, True
    try:
        yield
    finally:
        MUTED = before


class Whole:
    """A bar over several runs, each shown by its name while it lasts; elsewhere a line for each.

    A context manager; `begin(name)` and `end()` around each run.
    """

    def __init__(self, runs: int):
        self.runs, self.done, self.start = runs, 0, time.monotonic()
        self.bar = None
        if Console().is_terminal and not MUTED:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            self.bar = Progress(*columns, TextColumn("left"), TimeRemainingColumn())
            self.task = self.bar.add_task("", total=runs)

    def __enter__(self):
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *exception):
        if self.bar:
            self.bar.stop()

    def begin(self, name: str) -> None:
        """The next run."""
        self.name, self.since = name, time.monotonic()
        if self.bar:
            self.bar.update(self.task, description=name)

    def end(self) -> None:
        """It is over."""
        self.done += 1
        now = time.monotonic()
        if self.bar:
            self.bar.update(self.task, completed=self.done)
        else:
            left = (now - self.start) / self.done * (self.runs - self.done)
            say(f"{self.done}/{self.runs}  {self.name}: {now - self.since:.0f} s  {left:.0f} s left")

"""What a run shows: a progress bar on a terminal and in a notebook, plain lines anywhere else."""

import contextlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track

Item = TypeVar("Item")

MUTED = False


def mute() -> None:
    """Shows only errors from now on, because another process of the run shows the rest."""
    global MUTED
    MUTED = True


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Shows only errors within."""
    global MUTED
    before, MUTED = MUTED, True
    try:
        yield
    finally:
        MUTED = before


def say(text: str) -> None:
    """Prints a line on standard output and flushes it."""
    if not MUTED:
        print(text, flush=True)


def complain(text: str) -> None:
    """Prints an error on standard error."""
    print(f"error: {text}", file=sys.stderr, flush=True)


class TrainingDisplay:
    """Loss, steps per second and time left, shown by `update` after every log interval.

    It is a context manager. If there is a bar, `advance` moves the bar between log intervals.
    """

    def __init__(self, step: int, steps: int):
        self.steps, self.step, self.since = steps, step, time.monotonic()
        self.first: tuple[int, float] | None = None  # the first step, and when it was done
        numbers = "loss {task.fields[loss]}  {task.fields[speed]} steps/s{task.fields[waited]}"
        self.bar = _bar("train", numbers)
        self.task = self.bar.add_task("", total=steps, completed=step, loss="-", speed="-", waited="")

    def __enter__(self):
        self.bar.start()
        return self

    def __exit__(self, *exception):
        self.bar.stop()
        if not self.bar.disable and Console().is_jupyter:  # a notebook that is opened again has no bar
            say(f"step {self.step}/{self.steps}  loss {self.bar.tasks[self.task].fields['loss']}")

    def advance(self, step: int) -> None:
        """Moves the bar to `step`."""
        self.first = self.first or (step, time.monotonic())
        self.bar.update(self.task, completed=step)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Within, the time does not count."""
        begin = time.monotonic()
        yield
        self.since += time.monotonic() - begin

    def update(self, step: int, loss: float, waited: float | None = None) -> float:
        """Returns the steps per second since the last update, and shows them with the loss.

        The time left does not count the first step, which includes compilation.
        `waited` is how many of these seconds the steps waited for data.
        """
        now = time.monotonic()
        elapsed = max(now - self.since, 1e-9)
        speed = (step - self.step) / elapsed
        waiting = "" if waited is None else f"  {waited / elapsed:.1%} waiting for data"
        begin, since = self.step, self.since
        if self.first and begin < self.first[0] < step:
            begin, since = self.first
        pace = (now - since) / max(step - begin, 1)
        self.step, self.since = step, now
        self.bar.update(self.task, completed=step, loss=f"{loss:.4f}", speed=f"{speed:.1f}", waited=waiting)
        if self.bar.disable:
            left = (self.steps - step) * pace
            say(f"step {step}/{self.steps}  loss {loss:.4f}  {speed:.1f} steps/s{waiting}  {left:.0f} s left")
        return speed


def in_turn(items: Sequence[Item], what: str, *, every: float = 10.0) -> Iterator[Item]:
    """Yields the items under a bar; without one, a line reports progress `every` seconds."""
    if _shows_bars():
        yield from track(items, what)
        return
    told = time.monotonic()
    for number, item in enumerate(items):
        if number and time.monotonic() - told >= every:
            told = time.monotonic()
            say(f"{what} {number}/{len(items)}")
        yield item


def runs(items: Sequence[Item], name: Callable[[Item], str]) -> Iterator[Item]:
    """Yields the items under a bar with the current item's name; without one, a line follows each."""
    start = time.monotonic()
    with _bar("{task.description}") as bar:
        task = bar.add_task("", total=len(items))
        for done, item in enumerate(items, 1):
            since = time.monotonic()
            bar.update(task, description=name(item))
            yield item
            bar.update(task, completed=done)
            if bar.disable:
                now = time.monotonic()
                left = (now - start) / done * (len(items) - done)
                say(f"{done}/{len(items)}  {name(item)}: {now - since:.0f} s  {left:.0f} s left")


def table(rows: list[tuple[str, ...]]) -> str:
    """Returns rows of text in aligned columns: the first row is the heading, numbers stand to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    align = lambda row: "  ".join(
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    lines = [align(row).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(align(rows[0])), *lines[1:]])


def _shows_bars() -> bool:
    """Whether the output is a terminal, or a notebook that can show a bar, and is not muted."""
    console = Console()
    in_notebook = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
    return (console.is_terminal or in_notebook) and not MUTED


def _bar(before: str, after: str = "") -> Progress:
    """A bar between two texts, with the time left at its end; it shows nothing where there can be none."""
    left = (TextColumn(f"{after}  left".strip()), TimeRemainingColumn())
    return Progress(TextColumn(before), BarColumn(), MofNCompleteColumn(), *left, disable=not _shows_bars())

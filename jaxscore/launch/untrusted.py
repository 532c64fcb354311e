"""Reading files of a run that may be damaged, cut short, huge, or no files at all."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from jaxscore.launch import workdir
from jaxscore.launch.workdir import Refusal

LONGEST_LINE = 100_000
"""Bytes of a line of JSON; longer ones are left out."""
LONGEST_TEXT = 2000
"""Letters of a text from a file; the rest is left out."""
STEPS = " steps"
"""The entry of a line that is read: the number of steps since the line before."""


class Lines(NamedTuple):
    """What was read of a file of JSON lines."""

    rows: list[dict[str, Any]]
    """Objects; the entry STEPS is the difference to the step of the line before."""
    unread: int
    """Number of lines that could not be read, but for a last line that is being written."""
    count: int
    """Number of lines of the file."""
    every: int
    """k: every k-th line was read, and the last two."""


def lines(path: Path, points: int, problems: list[str]) -> Lines:
    """Returns the objects in about so many lines of a file, evenly spaced."""
    if not path.is_file():  # to open a pipe would wait for a writer
        if path.exists():
            problems.append(f"{path} is no file")
        return Lines([], 0, 0, 1)
    n, every, rows, unread = 0, 1, [], 0
    try:
        with path.open("rb") as file:
            n = sum(1 for _ in file)
        every = max(1, -(-n // points))
        with path.open("rb") as file:
            before = b""
            for number, line in enumerate(file):
                if number % every == 0 or number >= n - 2:
                    row = _parsed(line)
                    if row is not None:
                        rows.append(row | {STEPS: _difference(row, _parsed(before))})
                    unread += row is None and line.endswith(b"\n")
                before = line
    except OSError as error:
        problems.append(f"{path} cannot be read ({error.strerror})")
    return Lines(rows, unread, n, every)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Returns the object in the line, or None."""
    if len(line) > LONGEST_LINE:
        return None
    try:
        row = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _difference(row: dict[str, Any], before: dict[str, Any] | None) -> int | float | None:
    step, start = finite(row.get("step")), finite((before or {"step": 0}).get("step"))
    return None if step is None or start is None else step - start


def finite(value: Any) -> int | float | None:
    """Returns the number with five digits, or None if it is not a finite number."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
    except OverflowError:  # an integer with hundreds of digits
        return None
    return value if isinstance(value, int) else float(f"{value:.5g}")


def value(found: Any) -> Any:
    """Returns numbers, texts, True, False and None as they are, and anything else as a text."""
    if found is None or isinstance(found, bool):
        return found
    return text(found) if finite(found) is None else found


def text(found: Any) -> str:
    """Returns a text as it is, and anything else as JSON; only the first LONGEST_TEXT letters."""
    try:
        whole = found if isinstance(found, str) else json.dumps(found)
    except (ValueError, RecursionError):  # ValueError: an integer with thousands of digits
        return "(cannot be shown)"
    return whole if len(whole) <= LONGEST_TEXT else f"{whole[:LONGEST_TEXT]}…"


def read_object(path: Path, problems: list[str]) -> dict[str, Any]:
    """Returns the object in the file; {} after a line in `problems` if there is none."""
    if path.exists() and not path.is_file():
        problems.append(f"{path} is no file")
        return {}
    try:
        value = workdir.read_json(path)
    except Refusal as error:
        problems.append(str(error))
        return {}
    if not isinstance(value, dict) or not value:
        problems.append(f"{path} is missing" if value is None else f"{path} holds nothing that is shown")
        return {}
    return value

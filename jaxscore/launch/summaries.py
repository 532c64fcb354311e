"""What a page shows of a run, read from the run's folder without the experiment's code.

Nothing in the folder is trusted: a summary says under `problems` what is missing or damaged.
"""

import functools
import itertools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxscore.launch import workdir
from jaxscore.launch.provenance import LAUNCHES
from jaxscore.launch.workdir import Refusal

MOST_POINTS = 1000
"""Points of a curve, at most, of a run that is shown alone."""
LONGEST_LINE = 100_000
"""Bytes of a line of metrics.jsonl; longer ones are left out."""
TABLE = "table.json"
"""The file in the folder `report` with the rows of the table and the notes below it."""
TRAINING = "training"
"""The folder in `report` with pictures of samples as training went on."""


def summary(folder: Path, *, points: int = MOST_POINTS) -> dict[str, Any]:
    """Returns what a page shows of the run, as JSON has it, but for the pictures.

    Args:
        folder: the run's --workdir.
        points: number of points of a curve, at most.
    """
    problems: list[str] = []
    config = _object(folder / "config.json", problems)
    launches = [_launch(row) for _, row in _lines(folder / LAUNCHES, 100)]
    problems += _changes(launches)
    metrics = _object(folder / "metrics.json", problems) if (folder / "metrics.json").exists() else None
    log = curves(folder / "metrics.jsonl", points)
    if config and not log["lines"]:
        problems.append("metrics.jsonl has no line yet: the run has not reached --log-every")
    return {
        "name": str(folder),
        "experiment": str(config.pop("experiment", "unknown")),
        "config": workdir.flat(config),
        "launches": launches,
        "log": log,
        "steps": config.get("steps"),
        "evaluated": metrics is not None,
        "table": table(folder, problems),
        "problems": problems,
    }


def _launch(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a line of launches.jsonl with texts, a step and pairs, whatever the line has."""
    changed = row.get("changed") if isinstance(row.get("changed"), dict) else None
    if changed is not None:
        changed = {name: pair for name, pair in changed.items() if isinstance(pair, list) and len(pair) == 2}
    texts = ("started", "command", "devices", "jaxscore", "jax", "python")
    numbers = {name: _finite(row.get(name)) for name in ("step", "processes")}
    known = {name: str(row[name]) for name in texts if row.get(name) is not None}
    return dict.fromkeys(texts) | known | numbers | {"changed": changed}


def _changes(launches: list[dict[str, Any]]) -> list[str]:
    """Returns a line for each flag that had another value before: what earlier steps were made with."""
    found = []
    for before, now in itertools.pairwise(launches):
        old, new = before["changed"] or {}, now["changed"] or {}
        for name in dict.fromkeys([*old, *new]):
            recipe = [*old.get(name, []), *new.get(name, [])][0]
            was, value = (each.get(name, [None, recipe])[1] for each in (old, new))
            if was != value and name.split(".")[0] not in workdir.WITHOUT_EFFECT | {"steps"}:
                found.append(f"{name} is {value} from step {now['step']} on; before it was {was}")
    return found


def table(folder: Path, problems: list[str]) -> dict[str, Any] | None:
    """Returns {"rows", "notes"} of texts, or None if the run has no table yet.

    A table that is damaged is None too, after a line in `problems`.
    """
    path = folder / "report" / TABLE
    if not path.exists():
        return None
    value = _object(path, problems)
    rows, notes = value.get("rows"), value.get("notes")
    texts = lambda row: isinstance(row, list) and all(isinstance(cell, str) for cell in row)
    if not (isinstance(rows, list) and rows and all(map(texts, rows)) and texts(notes)):
        problems.append(f"{path} holds no table")
        return None
    return {"rows": rows, "notes": notes}


def age(folder: Path) -> float | None:
    """Returns the seconds since the last line of metrics.jsonl was written; None if there is none."""
    try:
        return max(0.0, time.time() - (folder / "metrics.jsonl").stat().st_mtime)
    except OSError:
        return None


def pictures(folder: Path) -> list[Path]:
    """Returns the pictures of a run: its report, those of training in their order, and those beside it."""
    report = folder / "report"
    places = (report, report / TRAINING, folder)
    last = lambda path: (path.stem == "loss", path)  # the page has these curves itself
    return [path for place in places for path in sorted(place.glob("*.png"), key=last) if path.is_file()]


def curves(path: Path, points: int) -> dict[str, Any]:
    """Returns the numbers in the lines of metrics.jsonl, by name, each a list with an entry for each step.

    An entry is None if the line lacks the number, or if it is not finite. If there are more lines than
    `points`, every k-th is read, and the last ones.
    """
    try:
        stamp = path.stat()
    except OSError:
        return {"lines": 0, "every": 1, "step": [], "scalars": {}, "edges": None, "by_sigma": []}
    return _curves(path, points, stamp.st_mtime_ns, stamp.st_size)


@functools.lru_cache(maxsize=512)
def _curves(path: Path, points: int, *stamp: int) -> dict[str, Any]:
    """Returns `curves`; the stamp of the file is a part of the key under which they are remembered."""
    numbered = [(number, row) for number, row in _lines(path, points) if _finite(row.get("step")) is not None]
    rows = [row for _, row in numbered]
    names = {name for row in rows for name in row if _finite(row[name]) is not None} - {"step"}
    edges = next((row["sigma_edges"] for row in reversed(rows) if _is_numbers(row.get("sigma_edges"))), None)
    known = lambda row: edges is not None and row.get("sigma_edges") == edges
    levels = [row.get("loss_by_sigma") if known(row) else None for row in rows]
    bins = range(0 if edges is None else len(edges) + 1)
    lines = _count(path)
    return {
        "lines": lines,
        "every": _stride(lines, points),
        "step": [row["step"] for row in rows],
        "scalars": {name: [_finite(row.get(name)) for row in rows] for name in sorted(names)},
        "edges": edges,
        "by_sigma": [[_entry(level, i) for level in levels] for i in bins],
    }


def _entry(values: Any, place: int) -> int | float | None:
    return _finite(values[place]) if isinstance(values, list) and place < len(values) else None


def _is_numbers(values: Any) -> bool:
    return isinstance(values, list) and len(values) < 100 and all(_finite(v) is not None for v in values)


def _finite(value: Any) -> int | float | None:
    """Returns the number with five digits, or None if it is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.5g}")


def _lines(path: Path, points: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the number and the object of every k-th line of a file of JSON lines, and of the last two.

    Of the last two lines, one may be cut short. Lines that are no objects are left out.
    """
    count = _count(path)
    stride = _stride(count, points)
    if not count:
        return
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if (number % stride and number < count - 2) or len(line) > LONGEST_LINE:
                continue
            try:
                row = json.loads(line.decode(errors="replace"))
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                yield number, row


def _count(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(1 for _ in file)
    except OSError:
        return 0


def _stride(lines: int, points: int) -> int:
    return max(1, -(-lines // points))


def _object(path: Path, problems: list[str]) -> dict[str, Any]:
    """Returns the object in the file; {} after a line in `problems` if there is none."""
    try:
        value = workdir.read_json(path)
    except Refusal as error:
        problems.append(str(error))
        return {}
    if not isinstance(value, dict):
        problems.append(f"{path} is missing" if value is None else f"{path} holds no object")
        return {}
    return value

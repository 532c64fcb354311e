"""What a page shows of a run, read from the run's folder without the experiment's code.

Nothing in the folder is trusted: a summary says under `problems` what is missing, damaged or out of date.
"""

import functools
import itertools
import json
import time
from pathlib import Path
from typing import Any

from jaxscore.launch import untrusted, workdir
from jaxscore.launch.provenance import LAUNCHES
from jaxscore.launch.untrusted import STEPS, finite, read_object

MOST_POINTS = 1000
"""Points of a curve, at most, of a run that is shown alone."""
MOST_NUMBERS = 50_000
"""Numbers in all curves of a run, at most."""
MOST_PICTURES = 100
"""Pictures of training and other pictures of a run, at most."""
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
    config = read_object(folder / "config.json", problems)
    path = folder / "metrics.json"
    metrics = read_object(path, problems) if path.exists() else {}
    starts = untrusted.lines(folder / LAUNCHES, 20, problems)
    launches = [_launch(row) for row in starts.rows]
    log = curves(folder / "metrics.jsonl", points, problems)
    if config and not problems and not log["lines"]:
        problems.append("metrics.jsonl has no line yet: the run has not reached --log-every")
    if starts.unread:
        problems.append(f"{LAUNCHES}: lines that could not be read: {starts.unread}")
    problems += _changes(launches)
    evaluated = _evaluated(config, metrics, launches, log["step"][-1:]) if config else None
    if evaluated is False:
        problems.append("the table and the pictures are older than this training: evaluate the run again")
    return {
        "name": str(folder),
        "experiment": untrusted.text(config.pop("experiment", "unknown")),
        "config": {name: untrusted.value(value) for name, value in workdir.flat(config).items()},
        "launches": launches,
        "log": log,
        "steps": finite(config.get("steps")),
        "evaluated": bool(evaluated),
        "table": table(folder, problems),
        "problems": problems,
    }


def age(folder: Path) -> float | None:
    """Returns the seconds since the last line of metrics.jsonl was written; None if there is none."""
    try:
        return max(0.0, time.time() - (folder / "metrics.jsonl").stat().st_mtime)
    except OSError:
        return None


def pictures(folder: Path) -> list[Path]:
    """Returns the pictures of a run: its report, those of training in their order, and those beside it.

    Of many pictures of training there are MOST_PICTURES, evenly spaced.
    """
    report = folder / "report"
    last = lambda path: (path.stem == "loss", path)  # the page has these curves itself
    found = lambda place: sorted((p for p in place.glob("*.png") if p.is_file()), key=last)
    training = found(report / TRAINING)
    thinned = training[::-1][:: -(-len(training) // MOST_PICTURES) or 1][::-1]
    return [*found(report)[:MOST_PICTURES], *thinned, *found(folder)[:MOST_PICTURES]]


def table(folder: Path, problems: list[str]) -> dict[str, Any] | None:
    """Returns {"rows", "notes"} of texts, or None if the run has no table yet.

    A table that is damaged is None too, after a line in `problems`.
    """
    path = folder / "report" / TABLE
    if not path.exists():
        return None
    value = read_object(path, problems)
    rows, notes = value.get("rows"), value.get("notes")
    texts = lambda row: isinstance(row, list) and all(isinstance(cell, str) for cell in row)
    if not (isinstance(rows, list) and rows and all(map(texts, rows)) and rows[0] and texts(notes)):
        rows = None
    if rows is None or len({len(row) for row in rows}) > 1:
        problems.append(f"{path} holds no table")
        return None
    return {"rows": rows, "notes": notes}


# Curves -------------------------------------------------------------------------------------------


def curves(path: Path, points: int, problems: list[str]) -> dict[str, Any]:
    """Returns the numbers in the lines of metrics.jsonl, by name, each a list with an entry for each step.

    An entry is None if the line lacks the number, or if it is not finite. If there are more lines than
    `points`, or more numbers than MOST_NUMBERS, every k-th line is read, and the last ones.
    """
    try:
        stamp = path.stat()
    except OSError:
        return {"lines": 0, "every": 1, "step": [], "scalars": {}, "edges": None, "by_sigma": []}
    found, said = _curves(path, points, stamp.st_mtime_ns, stamp.st_size)
    problems += said
    return found


@functools.lru_cache(maxsize=512)
def _curves(path: Path, points: int, *stamp: int) -> tuple[dict[str, Any], list[str]]:
    """Returns `curves` and its problems; they are remembered under the stamp of the file."""
    problems: list[str] = []
    read = untrusted.lines(path, points, problems)
    rows = [row for row in read.rows if finite(row.get("step")) is not None]
    if unread := read.unread + len(read.rows) - len(rows):
        problems.append(f"{path.name}: lines that could not be read: {unread}")
    names = sorted({name for row in rows for name in row if finite(row[name]) is not None} - {"step", STEPS})
    edges = next((row["sigma_edges"] for row in reversed(rows) if _is_numbers(row.get("sigma_edges"))), None)
    series = len(names) + (0 if edges is None else len(edges) + 1)
    if points > 100 and len(rows) * series > 1.2 * MOST_NUMBERS:
        found, _ = _curves(path, max(100, MOST_NUMBERS // series), *stamp)
        return found, problems
    known = lambda row: edges is not None and row.get("sigma_edges") == edges
    levels = [row.get("loss_by_sigma") if known(row) else None for row in rows]
    scalars = {name: [finite(row.get(name)) for row in rows] for name in names}
    waiting = [_waiting(row) for row in rows]
    return {
        "lines": read.count,
        "every": read.every,
        "step": [row["step"] for row in rows],
        "scalars": scalars | ({WAITING: waiting} if any(w is not None for w in waiting) else {}),
        "edges": edges,
        "by_sigma": [
            [_entry(level, i) for level in levels] for i in range(0 if edges is None else len(edges) + 1)
        ],
    }, problems


WAITING = "time waiting for data, %"
"""The name of the share of the time in which the devices waited for data."""


def _waiting(row: dict[str, Any]) -> float | None:
    """Returns the share of the line's time in which the devices waited for data, in percent."""
    wait, pace, steps = (finite(row.get(name)) for name in ("input_wait", "steps_per_second", STEPS))
    if wait is None or pace is None or steps is None or steps <= 0:
        return None
    return finite(min(100.0, max(0.0, 100.0 * wait * pace / steps)))


def _entry(values: Any, place: int) -> int | float | None:
    return finite(values[place]) if isinstance(values, list) and place < len(values) else None


def _is_numbers(values: Any) -> bool:
    return isinstance(values, list) and 0 < len(values) < 100 and all(finite(v) is not None for v in values)


# Starts and results -------------------------------------------------------------------------------


def _launch(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a line of launches.jsonl with texts, numbers and pairs, whatever the line has."""
    changed = row.get("changed") if isinstance(row.get("changed"), dict) else None
    if changed is not None:
        pairs = {name: pair for name, pair in changed.items() if isinstance(pair, list) and len(pair) == 2}
        changed = {name: [untrusted.value(each) for each in pair] for name, pair in pairs.items()}
    texts = ("started", "command", "devices", "jaxscore", "jax", "python")
    known = {name: None if row.get(name) is None else untrusted.text(row[name]) for name in texts}
    numbers = {name: finite(row.get(name)) for name in ("step", "processes")}
    return known | numbers | {"changed": changed}


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


def _evaluated(
    config: dict[str, Any], metrics: dict[str, Any], launches: list[dict[str, Any]], last: list[Any]
) -> bool | None:
    """Whether the results are of the newest training; None if there are none, or if nothing tells.

    They are not if their configuration is another one, or if steps were made in a start after them.
    """
    try:
        stamp = json.loads(metrics["stamp"])
        step, made_from = stamp["step"], stamp["config"]
        expected = json.loads(workdir.stamp(config, step))["config"]
        later = [start["step"] for start in launches if start["step"] is not None and start["step"] >= step]
        trained = last and (step > last[0] or any(last[0] > start for start in later))
        return made_from == expected and not trained
    except (KeyError, TypeError, ValueError, RecursionError):
        return None

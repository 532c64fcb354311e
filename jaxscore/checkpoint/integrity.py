"""Checks that the files of a checkpoint are as they were written: size and crc32 of each, in a sidecar file.

The folder `7` of step 7 has the sidecar `7.sums.json` beside it, with size and checksum of every file in the
folder. Orbax commits a save by renaming its folder from `7.orbax-checkpoint-tmp`. The sidecar is written
before the commit, so a step without a sidecar is not a finished save. The few files that the commit itself
writes are listed without a checksum until `complete` adds it.

>>> import tempfile
>>> directory = Path(tempfile.mkdtemp())
>>> (directory / "7").mkdir()
>>> for name in ("weights", *COMMITTED):
...     _ = (directory / "7" / name).write_text("1234")
>>> write_sums(directory, 7, directory / "7")
>>> complete(directory, 7)
>>> flaw(directory, 7)
>>> _ = (directory / "7" / "weights").write_text("1235")
>>> flaw(directory, 7)
'weights is not what was written (its checksum differs)'
"""

import json
import math
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

COMMITTED = ("_CHECKPOINT_METADATA", "commit_success.txt")
"""Files that Orbax writes, or writes again, while it commits."""

UNFINISHED = ".orbax-checkpoint-tmp"
SUMS, TEMPORARY = ".sums.json", ".sums.tmp"


class CheckpointError(Exception):
    """A checkpoint could not be written, read, or fitted to the network; the message says which."""


# Checksums ------------------------------------------------------------------------------------


def write_sums(directory: Path, step: int, folder: Path, *, metric: float | None = None) -> None:
    """Writes the sidecar of a step, whose files lie in `folder` and are about to be committed.

    Args:
        directory: directory of the checkpoints.
        step: number of the step.
        folder: folder that holds the files of the step now, before the commit renames it.
        metric: metric of the step, stored in the sidecar.
    """
    files: dict[str, Any] = {name: _sum(folder / name) for name in _files(folder)}
    _write(directory, step, {"metric": metric, "files": files | dict.fromkeys(COMMITTED)})


def complete(directory: Path, step: int) -> None:
    """Adds the checksums of the files that the commit has written, if they are not there yet."""
    known = _read(directory, step)
    missing = [name for name, value in known["files"].items() if value is None]
    present = [name for name in missing if (directory / str(step) / name).is_file()]
    if present:
        sums = {name: _sum(directory / str(step) / name) for name in present}
        _write(directory, step, known | {"files": known["files"] | sums})


def metric(directory: Path, step: int) -> float | None:
    """Metric that the step was saved with; None if there was no finite one, or if the sidecar is damaged."""
    try:
        value = _read(directory, step)["metric"]
    except (OSError, ValueError):
        return None
    return value if value is not None and math.isfinite(value) else None


def flaw(directory: Path, step: int) -> str | None:
    """What is wrong with the files of a step, in a few words; None if all are as they were written."""
    folder = directory / str(step)
    if not folder.exists():
        return "its folder is missing"
    if not folder.is_dir():
        return "it is a file, not a folder"
    try:
        found = _files(folder)
        if not found:
            return "its folder is empty"
        expected = _read(directory, step)["files"]
        for name in sorted(found ^ expected.keys()):
            return f"{name} is missing" if name in expected else f"{name} is left over"
        for name, value in expected.items():
            size, checksum = value or (None, None)
            there = (folder / name).stat().st_size
            if value is not None and there != size:
                return f"{name} has {there} bytes, and was written with {size}"
            if value is not None and _sum(folder / name)[1] != checksum:
                return f"{name} is not what was written (its checksum differs)"
    except FileNotFoundError as error:
        return f"it has no {Path(str(error.filename)).name}, as if its save had not been finished"
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror})"
    except ValueError as error:
        return str(error)
    return None


def _files(folder: Path) -> set[str]:
    """Names of all files in the folder and below, relative to `folder`."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def _sum(path: Path) -> list[int]:
    """[size, crc32] of a file."""
    if not path.is_file():  # reading a pipe would never end
        raise OSError(None, "it is no regular file", str(path))
    size, checksum, buffer = 0, 0, memoryview(bytearray(1 << 20))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            size, checksum = size + count, zlib.crc32(buffer[:count], checksum)
    return [size, checksum]


def _read(directory: Path, step: int) -> dict[str, Any]:
    """Content of the sidecar. Raises OSError if it cannot be read, ValueError if it is damaged."""
    path = directory / f"{step}{SUMS}"
    number = lambda value: isinstance(value, int) and not isinstance(value, bool)
    pair = lambda value: isinstance(value, list) and len(value) == 2 and all(map(number, value))
    try:
        value = json.loads(path.read_bytes())
        files, metric = value["files"], value["metric"]
        fine = all(pair(entry) or (entry is None and name in COMMITTED) for name, entry in files.items())
        if fine and (metric is None or isinstance(metric, float)):
            return value
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    raise ValueError(f"{path.name} is damaged")


def _write(directory: Path, step: int, value: dict[str, Any]) -> None:
    """Replaces the sidecar atomically: after a crash the file is the old or the new one, never a part."""
    path = directory / f"{step}{SUMS}"
    temporary = directory / f"{step}{TEMPORARY}"
    with temporary.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


# What lies in a directory of checkpoints --------------------------------------------------------


def steps(directory: Path) -> list[int]:
    """Numbers of all steps, the newest first; damaged steps count, unfinished saves do not.

    A sidecar whose folder is missing counts as a step: its folder has been lost.
    """
    names = _names(directory)
    sidecars = {name.removesuffix(SUMS) for name in names if name.endswith(SUMS)}
    begun = {name.removesuffix(UNFINISHED) for name in names if name.endswith(UNFINISHED)}
    return sorted((int(name) for name in names | (sidecars - begun) if _is_step(name)), reverse=True)


def remove_unfinished(directory: Path) -> None:
    """Removes the files of saves that were interrupted before they were committed."""
    for name in _names(directory):
        if name.endswith(UNFINISHED):
            step = name.removesuffix(UNFINISHED)
            if not (directory / step).exists():
                (directory / f"{step}{SUMS}").unlink(missing_ok=True)
            shutil.rmtree(directory / name, ignore_errors=True)
        elif name.endswith(TEMPORARY):
            (directory / name).unlink()


def remove_orphans(directory: Path) -> None:
    """Removes the sidecars of steps that are no longer kept."""
    names = _names(directory)
    for name in names:
        if name.endswith(SUMS) and name.removesuffix(SUMS) not in names:
            (directory / name).unlink(missing_ok=True)


def set_aside(directory: Path, step: int) -> Path:
    """Moves a step and its sidecar into `<directory>-damaged`; returns the new path of the step."""
    aside = directory.with_name(f"{directory.name}-damaged")
    aside.mkdir(exist_ok=True)
    name, number = str(step), 0
    while any((aside / taken).exists() for taken in (name, f"{name}{SUMS}")):
        number += 1
        name = f"{step}.{number}"
    # The sidecar first: a folder without its sidecar is known to be damaged, should the second move fail.
    for before, after in ((f"{step}{SUMS}", f"{name}{SUMS}"), (str(step), name)):
        if os.path.lexists(directory / before):
            os.rename(directory / before, aside / after)
    return aside / name


def _is_step(name: str) -> bool:
    return name.isascii() and name.isdigit() and str(int(name)) == name


def _names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()

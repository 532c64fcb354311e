"""The folder of a run: which run owns it, what it contains, and which results are up to date.

    config.json     the resolved configuration       metrics.jsonl   a line per log interval
    launches.jsonl  a line per start of the run      checkpoints/    Orbax
    samples.npz     arrays of samples                metrics.json    the evaluation
    report/         index.html, the table and the pictures
    fid_reference.npz, with --inception: statistics of the data

A result carries a stamp: the step and the configuration of the checkpoint that it was made from. A later
run compares stamps to see which results it must make again.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


class Refusal(Exception):
    """The request cannot be carried out; the text is the one line that the user sees."""


DATA, VERSION, OTHER_DATA = "data_fingerprint", "jaxscore_version", "other_data_up_to_step"
"""Entries of config.json beside the flags; folders of earlier versions lack them."""

WITHOUT_EFFECT = {"sample_batch", "log_every", "tensorboard", "mesh", "remat", "distributed", "heartbeat"}
WITHOUT_EFFECT |= {"save_every", "keep", "keep_best", "keep_every", "snapshot_every", "export", OTHER_DATA}
WITHOUT_EFFECT |= {"inception", "fid_reference", "picture_every"}
"""Fields of a configuration that affect neither the parameters nor the samples."""


def describe(name: str, config: Any) -> dict[str, Any]:
    """Returns what config.json stores: the name of the experiment or program, and its fields.

    The fields workdir and mode are left out, and so is a field with the key of the name, `experiment`.
    """
    fields = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return {"experiment": name} | {
        k: v for k, v in fields.items() if k not in ("experiment", "workdir", "mode")
    }


def claim(workdir: Path, description: dict[str, Any], needed: int = 0) -> list[str]:
    """Makes the folder, or takes it over from an earlier run of the same experiment.

    Returns the fields that have changed since the earlier run, as `name: old -> new`. Raises Refusal,
    without having written anything, if the folder is a file, cannot be written, belongs to another
    experiment, or lies on a disk with fewer than `needed` bytes free.
    """
    try:
        str(workdir).encode()
    except UnicodeEncodeError:
        text = ascii(str(workdir))
        raise Refusal(f"--workdir {text}: this locale has no such letters; set PYTHONUTF8=1") from None
    changed = []
    if workdir.exists():
        if not workdir.is_dir():
            raise Refusal(f"--workdir {workdir}: is a file, not a folder; name a folder")
        before = read_json(workdir / "config.json")
        if before is not None:
            owner = before.get("experiment") if isinstance(before, dict) else None
            if not owner:
                raise Refusal(
                    f"{workdir / 'config.json'} is no configuration of a run; name another --workdir"
                )
            if owner != description["experiment"]:
                raise Refusal(f"--workdir {workdir}: holds a run of {owner}; name another folder")
            changed = changes(before, description)
        elif {path.name for path in workdir.iterdir()} - {"checkpoints", ".lock"}:
            raise Refusal(f"--workdir {workdir}: is not empty and holds no run; name another folder")
    _require_space(workdir, needed)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        # os.access allows root everything, so try a real write.
        probe = workdir / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Refusal(f"--workdir {workdir}: cannot be written ({error.strerror}); name another") from error
    return changed


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Locks the folder against other runs. Raises Refusal if another run holds the lock.

    The kernel holds the lock on the folder itself and releases it when the process ends, even by SIGKILL.
    """
    descriptor = os.open(workdir, os.O_RDONLY)
    try:
        try:
            if not _lock(descriptor):  # NFS locks only files that are open for writing
                os.close(descriptor)
                descriptor = os.open(workdir / ".lock", os.O_RDWR | os.O_CREAT)
                _lock(descriptor)
        except BlockingIOError:
            remedy = "wait for it to end, or name another"
            raise Refusal(f"--workdir {workdir}: another run is at work there; {remedy}") from None
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def owned(workdir: Path, description: dict[str, Any]) -> Iterator[None]:
    """Claims the folder, locks it against other runs, and writes config.json.

    After an error config.json is as before: the results in the folder are not of the new configuration.
    Raises Refusal as `claim` and `locked` do.
    """
    claim(workdir, description)
    path = workdir / "config.json"
    with locked(workdir):
        before = read_json(path)
        write_json(path, description)
        try:
            yield
        except Exception:
            if before is not None:
                write_json(path, before)
            elif [each.name for each in workdir.iterdir()] == [path.name]:
                path.unlink()
                workdir.rmdir()
            raise


def _lock(descriptor: int) -> bool:
    """Locks the file; False if its file system cannot. Raises BlockingIOError if another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def stamp(description: dict[str, Any], step: int) -> str:
    """Returns the step and configuration that a result is made from, as text to compare."""
    return json.dumps({"step": step, "config": _effective(description)}, sort_keys=True)


def write_json(path: Path, value: Any) -> None:
    """Writes the value by `write_text`."""
    write_text(path, json.dumps(value, indent=2, default=_plain) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes to a temporary file, then renames it, so that a reader sees the old or the new file.

    The file is UTF-8. Bytes of a file's name that are no text are written as \\udcXX.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """Returns numbers and arrays of NumPy and JAX as JSON has them. Raises TypeError for anything else."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def read_json(path: Path) -> Any:
    """Returns the file's value, or None if there is no such file. Raises Refusal if it is damaged."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError, RecursionError) as error:
        raise Refusal(f"{path} is damaged ({error}); move it away, or name another folder") from error


def write_samples(path: Path, samples: dict[str, np.ndarray], stamp: str) -> None:
    """Writes the arrays and their stamp to a temporary .npz file, then renames it."""
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, stamp=np.array(stamp), **samples)
    os.replace(temporary, path)


def read_samples(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """Returns the arrays and their stamp; ({}, "") if the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        return arrays, str(arrays.pop("stamp"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return {}, ""


def _require_space(workdir: Path, needed: int) -> None:
    parent = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    total, _, free = shutil.disk_usage(parent)
    if total and free < needed:  # /proc and the like report a total of 0
        raise Refusal(
            f"--workdir {workdir}: no disk space, {free / 1e6:,.0f} MB free and {needed / 1e6:,.0f} MB "
            "needed; make room, or name a folder on another disk"
        )


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Returns the fields that differ between two descriptions, as `name: old -> new`.

    Fields in WITHOUT_EFFECT are left out, and so are DATA and VERSION if the first description lacks them.
    """
    before, now = flat(_effective(before)), flat(_effective(now))
    unknown = {DATA, VERSION} - before.keys()
    names = [name for name in before | now if before.get(name) != now.get(name) and name not in unknown]
    return [f"{name}: {before.get(name)} -> {now.get(name)}" for name in names]


def _effective(description: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in description.items() if name not in WITHOUT_EFFECT}


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the entries of nested dictionaries by names such as `optimizer.learning_rate`."""
    entries = {}
    for name, value in tree.items():
        nested = isinstance(value, dict)
        entries |= flat(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return entries

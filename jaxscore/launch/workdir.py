"""The folder of a run: who owns it, what is in it, and whether that is up to date.

    config.json     the resolved configuration       metrics.jsonl   a line per log interval
    checkpoints/    Orbax                            samples.npz     arrays of samples
    metrics.json    the evaluation                   report/*.png    pictures

A file made from a checkpoint carries a stamp, the step and the configuration it came from, by which
a later run knows that it need not be made again.
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
    """What cannot be done as asked; the text is the one line that the user sees."""


WITHOUT_EFFECT = {
    "sample_batch",
    "log_every",
    "save_every",
    "tensorboard",
    "mesh",
    "remat",
    "distributed",
    "heartbeat",
}
WITHOUT_EFFECT |= {"keep", "keep_best", "keep_every", "snapshot_every"}
"""Fields of a configuration that change no parameter and no sample."""


def describe(name: str, config: Any) -> dict[str, Any]:
    """What config.json says: the experiment's name, and every field but where it is and what is done."""
    fields = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return {"experiment": name} | {k: v for k, v in fields.items() if k not in ("workdir", "mode")}


def claim(workdir: Path, description: dict[str, Any], needed: int = 0) -> list[str]:
    """Make the folder, or take it over from an earlier run of the same experiment.

    Returns the fields that have changed since, as `name: old -> new`. Raises Refusal, with nothing
    written, if it is a file, cannot be written, belongs to another experiment, or if its disk has
    fewer than `needed` bytes free.
    """
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
        # As root every folder passes os.access, so try a real write.
        probe = workdir / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Refusal(f"--workdir {workdir}: cannot be written ({error.strerror}); name another") from error
    return changed


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Keep the folder from other runs. Raises Refusal if another one has it.

    The lock is the kernel's, on the folder itself, and ends with the process, however that ends.
    """
    descriptor = os.open(workdir, os.O_RDONLY)
    try:
        try:
            if not _lock(descriptor):  # NFS locks only what can be written, which a folder cannot
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

    Raises Refusal as `claim` and `locked` do.
    """
    claim(workdir, description)
    with locked(workdir):
        write_json(workdir / "config.json", description)
        yield


def _lock(descriptor: int) -> bool:
    """Whether it is locked now; False where it cannot be. Raises BlockingIOError if another has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def stamp(description: dict[str, Any], step: int) -> str:
    """What a result was made from, as text to compare."""
    return json.dumps({"step": step, **_effective(description)}, sort_keys=True)


def write_json(path: Path, value: Any) -> None:
    """Write, then rename: a reader sees the old file or the new one, never a part."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(temporary, path)


def read_json(path: Path) -> Any:
    """The file's value, or None if there is no such file. Raises Refusal if it is damaged."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise Refusal(f"{path} is damaged ({error}); move it away, or name another --workdir") from error


def write_samples(path: Path, samples: dict[str, np.ndarray], stamp: str) -> None:
    """Arrays in an .npz file with their stamp, written and then renamed."""
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, stamp=np.array(stamp), **samples)
    os.replace(temporary, path)


def read_samples(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """The arrays and their stamp; no arrays and '' if there is no such file, or a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        return arrays, str(arrays.pop("stamp"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return {}, ""


def _require_space(workdir: Path, needed: int) -> None:
    parent = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    disk = shutil.disk_usage(parent)
    free = disk.free
    if disk.total and free < needed:  # no size at all: not a disk, and not writable either
        raise Refusal(
            f"--workdir {workdir}: no disk space, {free / 1e6:,.0f} MB free and {needed / 1e6:,.0f} MB "
            "needed; make room, or name a folder on another disk"
        )


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The fields that differ between two descriptions and are not without effect, as `name: old -> new`."""
    before, now = _flat(_effective(before)), _flat(_effective(now))
    names = [name for name in before | now if before.get(name) != now.get(name)]
    return [f"{name}: {before.get(name)} -> {now.get(name)}" for name in names]


def _effective(description: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in description.items() if name not in WITHOUT_EFFECT}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        nested = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return flat

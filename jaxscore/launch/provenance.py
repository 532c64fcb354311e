"""What a run is made from: its flags, its data, the version of jaxscore, and each start of it."""

import hashlib
import json
import os
import platform
import shlex
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxscore
from jaxscore import data
from jaxscore.launch import workdir
from jaxscore.launch.config import Config
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.workdir import DATA, VERSION

LAUNCHES = "launches.jsonl"
"""The file with a line for each start of the run; see `record`."""

FIXED = {
    "sigma_data": "its weights are of another score with it",
    "held_out": "it was trained on other images than it would say",
    "run": "it was taught by that run",
    "method": "it has learnt by that method",
}
"""Flags that a trained run keeps, and why."""


def describe(experiment: Experiment, folder: Path) -> dict[str, Any]:
    """Returns what config.json stores: name and flags, the fingerprint of the data, and the version.

    Without data, as when a run is only sampled, the fingerprint is the one in the folder's config.json.
    """
    found = fingerprint(experiment)
    if found is None:
        before = workdir.read_json(folder / "config.json")
        found = before.get(DATA) if isinstance(before, dict) else None
    origin = {VERSION: jaxscore.__version__} | ({} if found is None else {DATA: found})
    return workdir.describe(experiment.name, experiment.config) | origin


def record(
    folder: Path, description: dict[str, Any], config: Config, recipe: Config | None, step: int
) -> None:
    """Writes config.json, and appends a line to launches.jsonl: when, how, on what, and from which step.

    The command is None in a notebook, whose command does not say what was run.
    `changed` has the flags that differ from the recipe, [recipe, run] by name. It is None if there is no
    recipe, because the configuration's class cannot be made without values.
    """
    workdir.write_json(folder / "config.json", description)
    devices = Counter(device.device_kind for device in jax.devices())
    line = {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": None if "ipykernel" in sys.modules else shlex.join(["python", *sys.orig_argv[1:]]),
        "changed": changed(config, recipe),
        "step": step,
        "devices": ", ".join(f"{number} x {kind}" for kind, number in devices.items()),
        "processes": jax.process_count(),
        "jaxscore": jaxscore.__version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
    }
    with (folder / LAUNCHES).open("ab+") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        begins = file.read() in (b"", b"\n")  # a killed run may have left half a line
        file.write(b"\n" * (not begins) + json.dumps(line).encode() + b"\n")


def changed(config: Config, recipe: Config | None) -> dict[str, list[Any]] | None:
    """Returns the flags that differ from the recipe, or from the defaults of the class if it is None."""
    if recipe is None:
        try:
            recipe = type(config)(workdir=config.workdir)
        except (TypeError, ValueError):  # a field has no default, or the defaults are refused
            return None
    now, before = (workdir.flat(workdir.describe("", each)) for each in (config, recipe))
    return {name: [before.get(name), value] for name, value in now.items() if before.get(name) != value}


def fingerprint(experiment: Experiment) -> str | None:
    """Returns the fingerprint of `experiment.data`, or of the first batch if there is none.

    The result is None if the data set is empty.
    """
    if experiment.data is None:
        return _of_a_batch(experiment)
    return data.fingerprint(experiment.data) if len(experiment.data.examples) else None


def _of_a_batch(experiment: Experiment) -> str:
    batches = experiment.batches(batch=64, seed=0, start=0)
    try:
        batch = next(batches, None)
    finally:
        getattr(batches, "close", lambda: None)()
    found = hashlib.blake2b(digest_size=8)
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        array = np.asarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()

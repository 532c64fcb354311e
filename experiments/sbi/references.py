"""Published draws of the posteriors of the tasks, from the data files of the package sbibm.

For each task there are ten observations, each with 10,000 draws of its posterior and the parameters that it
was simulated with. The package is not imported, because it needs old versions of other packages. It is
installed without them:

    pip install --no-deps sbibm

Source: Lueckmann et al. 2021, "Benchmarking simulation-based inference", appendix R.
"""

import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.sbi.tasks import TASKS
from jaxscore.launch import Refusal

PACKAGE = "sbibm"

NUMBERS = range(1, 11)
"""Numbers of the observations of each task."""


class Reference(NamedTuple):
    """An observation, draws of its posterior, and the parameters that it was simulated with."""

    observation: Float[np.ndarray, "m"]
    draws: Float[np.ndarray, "n d"]
    truth: Float[np.ndarray, "d"]


def reference(task: str, number: int) -> Reference:
    """Returns observation `number` of the named task, with 10,000 draws of its posterior.

    Raises:
        ValueError: if there is no such task, or if the number is not one of 1..10.
        Refusal: if sbibm is not installed, or if its files are not those of the task.
    """
    if task not in TASKS:
        raise ValueError(f"task {task!r} is none of {', '.join(TASKS)}")
    if number not in NUMBERS:
        raise ValueError(f"observation {number} is none of 1..{NUMBERS[-1]}")
    observation = _rows(task, number, "observation.csv", TASKS[task].n_data)
    truth = _rows(task, number, "true_parameters.csv", TASKS[task].n_parameters)
    draws = _rows(task, number, "reference_posterior_samples.csv.bz2", TASKS[task].n_parameters)
    return Reference(observation[0], draws, truth[0])


def folder() -> Path | None:
    """Returns the folder of the installed package sbibm; None if it is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    places = found.submodule_search_locations if found else None
    return Path(places[0]) if places else None


def _rows(task: str, number: int, name: str, columns: int) -> Float[np.ndarray, "n columns"]:
    """Returns the numbers of a file, in float32: the first line has the names of the columns."""
    remedy = f"pip install --no-deps {PACKAGE}"
    where = folder()
    if where is None:
        raise Refusal(f"the reference posteriors are files of the package {PACKAGE}: {remedy}")
    path = where / "tasks" / task / "files" / f"num_observation_{number}" / name
    if not path.is_file():
        raise Refusal(f"{path} is missing; install {PACKAGE} again: {remedy} --force-reinstall")
    try:
        rows = np.loadtxt(path, np.float32, delimiter=",", skiprows=1, ndmin=2)
    except (OSError, ValueError, EOFError) as error:
        raise Refusal(f"{path}: {error}; install {PACKAGE} again: {remedy} --force-reinstall") from None
    if rows.shape[1:] != (columns,) or not len(rows) or not np.isfinite(rows).all():
        raise Refusal(f"{path}: {list(rows.shape)} numbers, not [n, {columns}], or not all of them finite")
    return rows

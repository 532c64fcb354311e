"""Trained runs that another experiment works on."""

from pathlib import Path

import numpy as np

from jaxscore import data
from jaxscore.data import Dataset
from jaxscore.launch import Refusal, Run, open_run
from jaxscore.launch.evaluate import examples
from jaxscore.launch.open_run import find


def opened(folder: Path, module: str | None = None, *, flag: str = "run") -> Run:
    """Returns the run in the folder of --run. Raises Refusal if there is none, or if it has no score.

    Args:
        folder: of the run.
        module: where the run's `build` and configuration are, if not in experiments.NAME.
        flag: the flag that names the folder.
    """
    try:
        run = open_run(folder, *find(folder, module))
    except Refusal as error:
        of_teacher = str(error).startswith("--")  # a student's error names a flag already
        where = f"{folder}: its " if of_teacher else ""
        raise Refusal(f"--{flag} {where}{error}") from None
    if run.experiment.score is None:
        raise Refusal(f"--{flag} {folder}: the experiment {run.experiment.name} has no score")
    return run


def unseen(run: Run) -> tuple[Dataset, str]:
    """Returns examples that the run has not been trained on, and what they are.

    They are the test split of its data set, or the examples that --held-out kept from the training. If there
    are neither, they are training examples.
    """
    config, source = run.experiment.config, run.experiment.data
    size = {"size": config.size} if hasattr(config, "size") else {}
    fraction = getattr(config, "held_out", 0.0)
    if fraction and source is not None:
        held = held_out(len(source.examples), fraction)
        return Dataset(source.examples[held], source.labels[held]), "held-out examples"
    try:
        folder = getattr(config, "data_dir", None)
        return data.load(config.data, folder, split="test", **size), "test split"
    except (AttributeError, data.DataError):  # there is no data set, or no test split
        if source is not None:
            return source, "training examples"
        found = examples(run.experiment, 10_000)
        return Dataset(found, np.zeros(len(found), np.int32)), "training examples"


def held_out(n: int, fraction: float) -> np.ndarray:
    """Returns the numbers of the examples that are kept from the training, in order: a fraction of n."""
    return np.sort(np.random.default_rng(0).permutation(n)[: round(fraction * n)])

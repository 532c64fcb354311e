"""Trained runs that another experiment works on."""

from pathlib import Path

from jaxscore.launch import Refusal, Run, open_run
from jaxscore.launch.open_run import find


def opened(folder: Path, module: str | None = None) -> Run:
    """Returns the run in the folder of --run. Raises Refusal if there is none, or if it has no score.

    Args:
        folder: of the run.
        module: where the run's `build` and configuration are, if not in experiments.NAME.
    """
    try:
        run = open_run(folder, *find(folder, module))
    except Refusal as error:
        raise Refusal(f"--run {error}") from None
    if run.experiment.score is None:
        raise Refusal(f"--run {folder}: the experiment {run.experiment.name} has no score")
    return run

"""Runs of the small experiment that many tests look at, trained once."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from jaxscore import launch
from jaxscore.launch import metrics_log
from jaxscore.launch.experiment import Experiment
from tests.launch import tiny


@dataclasses.dataclass
class Run:
    folder: Path
    experiment: Experiment
    hooks: tiny.Hooks
    metrics: dict
    output: str


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A run from beginning to end, which nothing disturbs; tests only look at it."""
    folder, hooks = tmp_path_factory.mktemp("finished") / "run", tiny.hooks()
    experiment = tiny.build(tiny.Config(), hooks)
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch.console, "say", said.append)
        metrics = launch.run(experiment, folder)
    return Run(folder, experiment, hooks, metrics, "\n".join(said))


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run's folder, to go on with."""
    return shutil.copytree(finished.folder, tmp_path / "copy", copy_function=shutil.copy2)


@pytest.fixture(scope="session")
def every_step(tmp_path_factory):
    """The rows of the same training, one for each step."""
    folder = tmp_path_factory.mktemp("every_step") / "run"
    launch.run(tiny.build(tiny.Config(log_every=1)), folder, mode="train")
    return metrics_log.read(folder / "metrics.jsonl")

"""Flags of the experiment; their bounds are in test_commands.py."""

import pytest

from experiments.sbi.config import Calibration, Config
from experiments.sbi.experiment import defaults
from experiments.sbi.tasks import TASKS
from jaxscore.launch import FlagError


def test_every_task_has_defaults_and_a_folder_of_its_own():
    folders = {defaults(task).workdir for task in TASKS}
    assert len(folders) == len(TASKS)
    assert defaults("gaussian_linear").optimizer == Config().optimizer
    assert defaults("two_moons").optimizer.weight_decay == 0.1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"densities": 3}, "--calibration.densities 3: must be 0, or at least 7"),
        ({"densities": 401}, "--calibration.densities 401: must be at most --calibration.simulations 400"),
        ({"density_draws": 101}, "--calibration.density-draws 101: must be at most --calibration.draws 100"),
    ],
)
def test_densities_are_of_simulations_that_are_drawn_from(changes, said):
    with pytest.raises(FlagError, match=said):
        Calibration(**changes)
    assert Calibration(densities=0, draws=10).densities == 0


def test_two_simulations_at_least_validate():
    with pytest.raises(FlagError, match="leaves 1 of 100 simulations for the validation"):
        Config(simulations=100, held_out=0.01)
    with pytest.raises(FlagError, match="leaves 0 of 100 simulations for the training"):
        Config(simulations=100, held_out=0.999)

import dataclasses
import json
import re

import numpy as np
import pytest

from experiments import digits, distill, solvers
from experiments.solvers import run as module
from experiments.solvers.methods import METHODS
from jaxscore import launch
from jaxscore.launch import FlagError
from tests.experiments.pictures import ink

SMALL = {"evaluations": (2, 5), "tolerances": (0.1,), "optimise": 5, "samples": 20}
FEW = {name: METHODS[name] for name in ("euler", "heun", "dpm_solver_pp 2", "ancestral")}
FOUND = {"dpm_solver_pp 2": METHODS["dpm_solver_pp 2"]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A conditional run, so that samples have classes that are asked for."""
    folder = tmp_path_factory.mktemp("solvers") / "run"
    config = digits.Config(workdir=folder, conditional=True, mode="train", steps=2, width=8, depth=1)
    launch.run(digits.build(config), config.workdir, mode="train")
    return folder


@pytest.fixture(autouse=True, scope="module")
def few():
    """Four of the methods, because each has programs of its own to compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "METHODS", FEW)
        patch.setattr(module, "ON_FOUND_LEVELS", FOUND)
        yield


@pytest.fixture(scope="module")
def measured(trained, few):
    config = solvers.Config(run=trained, workdir=trained.parent / "solvers", **SMALL)
    return config, module.run(config)


def test_every_sampler_has_a_row_for_each_budget(measured):
    config, found = measured
    assert json.loads((config.workdir / "solvers.json").read_text()) == found
    assert len(found["rows"]) == 2 * (len(FEW) + len(FOUND)) + 1
    for row in found["rows"]:
        assert row["low"] <= row["frechet"] <= row["high"]
        assert row["seconds"] > 0
        noisy = row["sampler"] in METHODS and METHODS[row["sampler"]].noisy
        assert ("rms" in row) != noisy
    assert found["rows"][-1]["evaluations"] > 5


def test_with_more_evaluations_the_flow_is_nearer(measured):
    at = {(row["sampler"], row["budget"]): row for row in measured[1]["rows"]}
    for name in ("euler", "dpm_solver_pp 2"):
        assert at[name, 5]["rms"] < at[name, 2]["rms"]
    assert at["dpm_solver_pp 2, found levels", 5]["rms"] < at["dpm_solver_pp 2", 5]["rms"]


def test_the_picture_is_drawn(measured):
    assert ink(measured[0].workdir / "solvers.png") > 0.02


def test_students_are_measured_beside_the_samplers(trained, tmp_path):
    folders = [tmp_path / method for method in ("reflow", "consistency")]
    for folder in folders:
        own = distill.Config(run=trained, workdir=folder, method=folder.name, steps=1, batch=8)
        launch.run(distill.build(own), folder, mode="train")
    config = solvers.Config(run=trained, workdir=tmp_path / "s", students=tuple(folders), **SMALL)
    problem = module.posed(config)
    jobs = module.steps_of(problem)
    shown = [(job.name, job.budget, job.follows) for job in jobs]
    first = [("distilled, reflow", 1, True), ("distilled, reflow", 2, True)]
    assert shown == [*first, ("distilled, consistency", 1, True), ("distilled, consistency", 2, False)]
    for job in jobs:
        found = problem.judged(job.make()(problem.start), follows=job.follows)
        assert np.isfinite(found["frechet"])
        assert ("same_class" in found) == job.follows
    foreign = dataclasses.replace(config, students=(trained,))
    with pytest.raises(FlagError, match=r"is no student of .*run by experiments\.distill"):
        module.students(foreign)
    with pytest.raises(FlagError, match="is a second one by reflow; give one of each"):
        module.students(dataclasses.replace(config, students=(folders[0], folders[0])))
    with pytest.raises(FlagError, match=r"starts at 40.0; give it as the --sigma-max"):
        module.students(dataclasses.replace(config, sigma_max=30.0))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--run nowhere", "--run nowhere: holds no run of an experiment"),
        ("--run RUN --evaluations 1", "--evaluations .*1.*: must be at least 2"),
        ("--run RUN --sigma-min 50", "--sigma-min 50.0: must be below --sigma-max"),
        ("--run RUN --samples 5", "--samples 5: must be at least 10"),
    ],
)
def test_bad_input_is_one_line_and_status_2(trained, refused, words, said):
    assert re.match(said, refused("solvers", words.replace("RUN", str(trained))))


def test_levels_are_those_of_the_flags(trained):
    problem = module.posed(solvers.Config(run=trained, workdir=trained.parent / "s", **SMALL, sigma_max=9.0))
    np.testing.assert_allclose(problem.sigmas(1), [9.0, 0.0])
    np.testing.assert_allclose(problem.sigmas(3)[:3:2], [9.0, 0.01], rtol=1e-5)

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from experiments import digits
from experiments.common import runs
from jaxscore import launch
from jaxscore.launch.flags import FlagError
from jaxscore.launch.workdir import Refusal


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = digits.Config(
        workdir=tmp_path_factory.mktemp("runs") / "run", mode="train", steps=2, width=8, depth=1
    )
    launch.run(digits.build(config), config.workdir, mode="train")
    return config.workdir


def test_a_run_is_opened_by_its_folder(trained):
    run = runs.opened(trained)
    assert (run.experiment.name, run.step) == ("digits", 2)


def test_without_a_test_split_they_are_those_of_the_training(trained):
    found, what = runs.unseen(runs.opened(trained))
    assert (len(found.examples), what) == (1797, "training examples")


def test_held_out_examples_are_not_in_the_batches(tmp_path):
    config = digits.Config(workdir=tmp_path, held_out=0.2, width=8, depth=1, steps=1, mode="train")
    launch.run(digits.build(config), tmp_path, mode="train")
    run = runs.opened(tmp_path)
    found, what = runs.unseen(run)
    assert (len(found.examples), len(found.labels), what) == (359, 359, "held-out examples")
    batches = run.experiment.batches(batch=1438, seed=0)
    trained_on = np.concatenate([next(batches)["x"] for _ in range(2)])[:1438]
    as_rows = lambda x: {row.tobytes() for row in np.asarray(x, np.float32)}
    assert len(trained_on) + len(found.examples) == 1797
    assert not as_rows(trained_on) & as_rows(found.examples)
    other = dataclasses.replace(config, held_out=0.3)
    with pytest.raises(Refusal, match=r"--held-out: .* was trained with another .held_out: 0.2 -> 0.3"):
        launch.run(digits.build(other), tmp_path, mode="train")
    with pytest.raises(FlagError, match=r"--held-out 0.9999: leaves none of 1797 images for the training"):
        digits.build(dataclasses.replace(config, held_out=0.9999))


def test_the_held_out_examples_are_always_the_same():
    held = runs.held_out(1000, 0.1)
    assert len(set(held.tolist())) == 100
    assert (np.diff(held) > 0).all()
    np.testing.assert_array_equal(runs.held_out(1000, 0.1), held)
    assert len(runs.held_out(1000, 0.0)) == 0


def test_what_is_no_run_is_refused(trained, monkeypatch):
    with pytest.raises(Refusal, match="--run nowhere: holds no run of an experiment"):
        runs.opened(Path("nowhere"))
    with pytest.raises(Refusal, match="but json has no `build`"):
        runs.opened(trained, "json")
    build = digits.build
    monkeypatch.setattr(digits, "build", lambda config: build(config)._replace(score=None))
    with pytest.raises(Refusal, match="the experiment digits has no score"):
        runs.opened(trained)

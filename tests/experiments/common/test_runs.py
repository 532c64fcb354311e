from pathlib import Path

import pytest

from experiments import digits
from experiments.common import runs
from jaxscore import launch
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


def test_what_is_no_run_is_refused(trained, monkeypatch):
    with pytest.raises(Refusal, match="--run nowhere: holds no run of an experiment"):
        runs.opened(Path("nowhere"))
    with pytest.raises(Refusal, match="but json has no `build`"):
        runs.opened(trained, "json")
    build = digits.build
    monkeypatch.setattr(digits, "build", lambda config: build(config)._replace(score=None))
    with pytest.raises(Refusal, match="the experiment digits has no score"):
        runs.opened(trained)

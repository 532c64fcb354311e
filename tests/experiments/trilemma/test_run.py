import dataclasses
import json

import numpy as np
import pytest

from experiments.trilemma import run as trilemma
from jaxscore.launch.flags import FlagError
from jaxscore.launch.metrics_log import NonFinite
from jaxscore.launch.workdir import Refusal
from tests.experiments.families import small

SMALL = {"data": "25gaussians", "families": "gan", "seeds": 2, "samples": 16, "tflops": 1e-6}


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """Every family in a small size, and a budget of five steps, whatever the family."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trilemma.overrides, "recipe", lambda family, data: small.config(family, data=data))
        patch.setattr(trilemma.budget, "cost", lambda build, config: 2e5)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two seeds of the GAN: the configuration, and what was found."""
    config = trilemma.Config(workdir=tmp_path_factory.mktemp("trilemma"), **SMALL)
    return config, trilemma.run(config)


def test_seeds_make_a_table_and_pictures_once(finished, monkeypatch):
    config, result = finished
    (row,) = result["rows"]
    assert (row["family"], row["sampler"], row["evaluations"], row["diverged"]) == ("gan", "one pass", 1, 0)
    assert len(row["metrics"]["frechet"]) == len(row["seconds_per_1000"]) == 2
    assert row["intervals"]["frechet"]["mean"] == pytest.approx(np.mean(row["metrics"]["frechet"]))
    assert result["settings"]["reference_n"] == 2000
    names = ["samples.png", "trilemma.png"]
    assert sorted(path.name for path in (config.workdir / "report").iterdir()) == names
    assert json.loads((config.workdir / "trilemma.json").read_text()) == json.loads(json.dumps(result))
    monkeypatch.setattr(trilemma.launch, "run", lambda *a, **k: pytest.fail("trained again"))
    assert json.loads(json.dumps(trilemma.run(config))) == json.loads(json.dumps(result))


def test_runs_of_another_budget_are_not_gone_on_with(finished, capsys):
    config, _ = finished
    with pytest.raises(Refusal, match=r"gan-0 is of another recipe \(steps: 5 -> 50\); move it away"):
        trilemma.run(dataclasses.replace(config, tflops=1e-5))
    # Other samples are drawn from the same training.
    more = trilemma.run(dataclasses.replace(config, samples=20))
    assert more["settings"]["n"] == 20
    assert "2/2" in capsys.readouterr().out


def test_results_of_other_data_are_not_shown(finished, monkeypatch):
    """The examples of 25gaussians are replaced by others."""
    config, _ = finished
    setting = trilemma.settings.of("25gaussians")
    other = setting._replace(train=setting.train[::-1].copy())
    monkeypatch.setattr(trilemma.settings, "of", lambda *source: other)
    with pytest.raises(Refusal, match=r"gan-0 is of another recipe \(data_fingerprint: .*\); move it away"):
        trilemma.run(config)


def test_a_family_that_diverges_is_reported_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    real = trilemma.launch.run

    def run(experiment, folder, **options):
        if experiment.name == "families.gan":
            raise NonFinite("the loss is not finite at step 3")
        return real(experiment, folder, **options)

    monkeypatch.setattr(trilemma.launch, "run", run)
    result = trilemma.run(trilemma.Config(workdir=tmp_path, **SMALL | {"families": "gan,edm", "seeds": 1}))
    assert [row["diverged"] for row in result["rows"]] == [1, 0, 0]
    assert result["rows"][0]["metrics"] == {}
    assert "diverged" in capsys.readouterr().out


def test_training_seconds_are_the_median_pace_of_slow_steps_too(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text(
        "".join(json.dumps({"step": 1, "steps_per_second": pace}) + "\n" for pace in (0.001, 0.004, 0.005))
    )
    assert trilemma.training_seconds(log, 8) == pytest.approx(2000)


def test_an_fid_of_points_is_refused_before_training(finished, tmp_path):
    config, _ = finished
    asked = dataclasses.replace(config, workdir=tmp_path / "run", inception=tmp_path / "weights.pth")
    with pytest.raises(FlagError, match=r"^--inception .*weights\.pth: samples of shape \[2\] are no images"):
        trilemma.run(asked)
    assert not list(tmp_path.rglob("checkpoints"))


def test_each_t_is_a_family_of_its_own(tmp_path):
    config = trilemma.Config(families="ddgan", denoising_steps=(1, 4, 8))
    found = trilemma.members(config, tmp_path, 2)
    assert [member.name for member in found] == ["ddgan1", "ddgan", "ddgan8"]
    evaluations = [member.module.evaluations(member.config) for member in found]
    assert evaluations == [{"T = 1": 1}, {"T = 4": 4}, {"T = 8": 8}]
    assert {member.config.seed for member in found} == {2}
    config = trilemma.Config(families="vanilla_ddgan", denoising_steps=(1, 4))
    names = [member.name for member in trilemma.members(config, tmp_path, 0)]
    assert names == ["vanilla_ddgan1", "vanilla_ddgan"]

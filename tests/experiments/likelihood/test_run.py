"""The likelihood of a run: a class-conditional one with held-out images, in parts and as a whole."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest

from experiments import digits
from experiments.digits.experiment import load
from experiments.likelihood import Config, measure
from experiments.likelihood import run as module
from jaxscore import launch, likelihood
from jaxscore.launch import workdir
from jaxscore.launch.flags import FlagError
from tests.experiments.pictures import ink

SMALL = {"examples": 20, "batch": 8, "probes": 2, "bound_draws": 2, "tolerance": 1e-2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("likelihood") / "run"
    flags = {"conditional": True, "held_out": 0.1, "dequantise": True, "steps": 2, "width": 8, "depth": 1}
    config = digits.Config(workdir=folder, mode="train", **flags)
    launch.run(digits.build(config), folder, mode="train")
    return folder


@pytest.fixture(scope="module")
def measured(trained):
    config = Config(run=trained, workdir=trained.parent / "out", **SMALL)
    return config, module.run(config)


def test_every_set_has_a_row_and_every_example_is_counted(measured):
    config, found = measured
    assert json.loads((config.workdir / "likelihood.json").read_text()) == found
    assert [each["set"] for each in found["sets"]] == ["held-out examples", "upside down"]
    assert [each["examples"] for each in found["sets"]] == [20, 20]
    assert found["grey_values"] == 17
    for each in found["sets"]:
        assert 0 < each["log_p_bits"] < 10
        assert each["seconds"] > 0


def test_a_run_on_images_that_were_not_dequantised_is_told_so(measured):
    config, found = measured
    run = module.opened(config.run)
    problem = module.posed(config, run, module.chosen(config, run))
    said = "the run was not trained on dequantised images"
    assert not any(said in note for note in found["notes"])
    plain = dataclasses.replace(run.experiment.config, dequantise=False)
    other = problem._replace(run=run._replace(experiment=run.experiment._replace(config=plain)))
    assert said in "\n".join(module.notes(other, found["sets"], {}))


def test_the_untrained_network_has_the_density_of_a_gaussian(measured):
    """Two steps leave the score of N(mean, sigma_data^2 I), whose bits per dimension are known."""
    config, found = measured
    run = module.opened(config.run)
    images = module.unseen(run)[0].examples[:20]
    encode = run.experiment.units.encode
    filled = likelihood.dequantise(jax.random.key(0), images, values=17, draws=20, encode=encode)
    s2 = load(run.experiment.config).sigma_data ** 2 + config.sigma_min**2
    squares = np.sum(np.asarray(filled.x).reshape(400, -1) ** 2, axis=1)
    nats = -squares / s2 / 2 - 32 * np.log(2 * np.pi * s2)
    bits = -np.mean(nats + np.asarray(filled.log_volume)) / (64 * np.log(2))
    assert found["sets"][0]["log_p_bits"] == pytest.approx(bits, abs=0.1)
    assert found["sets"][0]["bound_bits"] == pytest.approx(bits, abs=0.2)


def test_the_pictures_are_drawn_and_decoding_undoes_encoding(measured):
    config, found = measured
    for name in ("histogram.png", "interpolation.png"):
        assert ink(config.workdir / name) > 0.02
    assert found["round_trip_rms"] < 0.1  # cells of 1/17 lose up to half of their width


def test_a_killed_run_goes_on_and_ends_with_the_same_numbers(measured, monkeypatch):
    config, found = measured
    again = dataclasses.replace(config, workdir=config.workdir.with_name("killed"))
    real, batches = measure._program, []

    def killed(problem):
        draw = real(problem)

        def counted(begin, *rest):
            batches.append(begin)
            if len(batches) == 2:
                raise KeyboardInterrupt
            return draw(begin, *rest)

        return counted

    monkeypatch.setattr(measure, "_program", killed)
    with pytest.raises(KeyboardInterrupt):
        module.run(again)
    resumed = module.run(again)
    assert batches == [0, 8, 8, 16, 0, 8, 16]
    for first, second in zip(found["sets"], resumed["sets"], strict=True):
        assert first["log_p"] == pytest.approx(second["log_p"], rel=1e-6)
    rows, _ = workdir.read_samples(again.workdir / "rows-0.npz")
    assert len(rows["log_p"]) == 20


def test_results_of_other_flags_are_not_taken(measured):
    config, found = measured
    stamp = "of something else"
    run = module.opened(config.run)
    sets = module.chosen(config, run)
    problem = module.posed(config, run, sets)
    x, labels = sets["held-out examples"]
    path = config.workdir.with_name("other.npz")
    workdir.write_samples(path, {"log_p": np.zeros(20)}, stamp)
    rows, solved = measure.rows_of(problem, "set", x[:8], labels[:8], path, "mine")
    assert (rows["log_p"] != 0).all()
    assert solved == 8
    again, solved = measure.rows_of(problem, "set", x[:8], labels[:8], path, "mine")
    np.testing.assert_array_equal(again["log_p"], rows["log_p"])
    assert solved == 0
    assert found["sets"][0]["log_p"] != 0


def test_results_of_other_flags_are_not_overwritten(measured):
    config, found = measured
    with pytest.raises(FlagError, match=r"--workdir .*: holds results of other flags \(seed: 0 -> 1\); name"):
        module.run(dataclasses.replace(config, seed=1))
    assert json.loads((config.workdir / "likelihood.json").read_text()) == found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--run nowhere", "--run nowhere: holds no run of an experiment"),
        ("--against digits", "--against digits: needs --run"),
        ("--run RUN --against digits", "--against digits: the run is conditioned on classes"),
        ("--run RUN --against random:4x4x1", r"--against random:4x4x1: its examples have shape \(4, 4, 1\)"),
        ("--run RUN --tolerance 1e-9", "--tolerance 1e-09: is below the resolution of float32"),
    ],
)
def test_bad_input_is_one_line_and_status_2(trained, refused, words, said):
    assert re.match(said, refused("likelihood", words.replace("RUN", str(trained))))

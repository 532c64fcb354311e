"""Weights of trained runs as files for anybody; the round trip is in import_weights/test_run.py."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import digits
from experiments.export_weights import Config, export
from jaxscore import importers, launch
from jaxscore.launch import Refusal
from jaxscore.launch.flags import FlagError

pytest.importorskip("safetensors")


@pytest.mark.slow
def test_digits_are_exported_with_their_score(tmp_path):
    folder, weights = tmp_path / "digits", tmp_path / "weights"
    flags = {"workdir": folder, "steps": 2, "batch": 16, "width": 8, "depth": 1, "conditional": True}
    launch.run(digits.build(digits.Config(**flags)), folder, mode="train")
    assert [path.name for path in export(Config(run=folder, folder=weights))] == [
        "config.json",
        "model.safetensors",
    ]
    run = launch.open_run(folder, digits.build, digits.Config)
    score, _, params = importers.safetensors.load(weights)
    x, sigma, label = jnp.ones((2, 8, 8, 1)), jnp.array([0.1, 3.0]), jnp.array([3, 10])
    found = partial(score, params)(x, sigma, label)
    np.testing.assert_array_equal(found, run.score(x, sigma, label))
    with pytest.raises(FlagError, match="exists already; name another folder"):
        export(Config(run=folder, folder=weights))


def test_without_a_description_the_configuration_is_exported(tmp_path, monkeypatch):
    """And it says so, when somebody wants to load a score."""
    experiment = launch.Experiment("mine", None, None, None, {})
    opened = launch.Run(experiment, {"params": {"w": jnp.ones(3)}}, 7)
    monkeypatch.setattr("experiments.export_weights.find", lambda *arguments: (None, None))
    monkeypatch.setattr("experiments.export_weights.open_run", lambda *arguments: opened)
    (tmp_path / "config.json").write_text(json.dumps({"experiment": "mine", "seed": 3}))
    export(Config(run=tmp_path, folder=tmp_path / "weights"))
    found = importers.safetensors.arrays(tmp_path / "weights" / "model.safetensors")
    np.testing.assert_array_equal(found["params/w"], jax.device_get(jnp.ones(3)))
    assert json.loads((tmp_path / "weights" / "config.json").read_text())["experiment"] == "mine"
    with pytest.raises(ValueError, match="this is no description of a network"):
        importers.safetensors.load(tmp_path / "weights")


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(Refusal, match=f"--run {tmp_path}: holds no run of an experiment"):
        export(Config(run=tmp_path, folder=tmp_path / "weights"))

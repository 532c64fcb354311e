"""A run that has been trained, opened again: its averaged parameters, its score, and what is no run."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore.launch import open_run, workdir
from jaxscore.launch.workdir import Refusal
from tests.launch import tiny
from tests.launch.tiny import Config, newest

opening = sys.modules["jaxscore.launch.open_run"]  # `launch.open_run` is the function


def test_it_has_the_averaged_parameters_and_the_configuration(finished):
    run = open_run(finished.folder, tiny.build, Config)
    assert run.step == 12
    assert workdir.describe("tiny", run.experiment.config) == workdir.describe("tiny", Config())
    tiny.assert_identical(jax.device_get(run.params), newest(finished.folder, finished.experiment).ema)
    keys = jax.random.split(jax.random.key(0), 8)
    assert run.experiment.samplers["two"](run.params, keys)["start"].shape == (8, 2)


def test_its_score_is_that_of_the_averaged_parameters(finished):
    score = lambda params, x, sigma, condition=0.0: params["in"]["bias"][0] + x * sigma[:, None] + condition
    build = lambda config: tiny.build(config)._replace(score=score)
    run = open_run(finished.folder, build, Config)
    x, sigma = jnp.ones((3, 2)), jnp.arange(3.0)
    expected = float(run.params["in"]["bias"][0]) + x * sigma[:, None]
    np.testing.assert_allclose(run.score(x, sigma), expected, rtol=1e-6)
    np.testing.assert_allclose(run.score(x, sigma, 5.0), expected + 5, rtol=1e-6)
    with pytest.raises(ValueError, match="'tiny' has no `score`"):
        open_run(finished.folder, tiny.build, Config).score(x, sigma)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "is no run of an experiment"),
        ([], "is no run of an experiment"),
        ({"experiment": "tiny"}, "has no checkpoint yet; train the run first"),
        ({"experiment": "tiny", "steps": "many"}, "its config.json is not of this version: .*steps"),
        ({"experiment": "tiny", "unknown": 1}, "its config.json is not of this version: .*unknown"),
        ({"experiment": "tiny", "batch": -1}, "its config.json is not of this version: --batch -1"),
        ({"experiment": "other"}, "holds a run of other, not of tiny"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path, config, said):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(Refusal, match=said) as caught:
        open_run(tmp_path, tiny.build, Config)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_the_module_of_a_run_is_found(finished):
    assert opening.find(finished.folder, "tests.launch.tiny") == (tiny.build, Config)
    with pytest.raises(Refusal, match=r"is a run of tiny, but experiments\.tiny cannot be imported"):
        opening.find(finished.folder)
    with pytest.raises(Refusal, match=r"mine cannot be imported .*; set PYTHONPATH to its folder"):
        opening.find(finished.folder, "mine")
    with pytest.raises(Refusal, match="json has no `build`, or no configuration"):
        opening.find(finished.folder, "json")

"""A run that has been trained, opened again: its averaged parameters, its score, and what is no run."""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxscore import noise, trainer
from jaxscore.launch import Optimizer, open_run, run, workdir
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
        (None, "holds no run of an experiment"),
        ([], "holds no run of an experiment"),
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
    with pytest.raises(Refusal, match=r"experiments\.tiny cannot be imported"):
        open_run(finished.folder)
    with pytest.raises(TypeError, match="takes both `build` and `kind`, or neither"):
        open_run(finished.folder, tiny.build)
    with pytest.raises(TypeError, match="int is no configuration: give the class of the flags"):
        open_run(finished.folder, tiny.build, int)
    with pytest.raises(Refusal, match=r"mine cannot be imported .*; set PYTHONPATH to its folder"):
        opening.find(finished.folder, "mine")
    with pytest.raises(Refusal, match="json has no `build`, or no configuration"):
        opening.find(finished.folder, "json")


# State of the network that is not trained ---------------------------------------------------------


class Dropping(nnx.Module):
    """Batch normalisation and dropout, whose statistics, key and counter are state."""

    def __init__(self, rngs):
        self.into, self.out = nnx.Linear(2, 8, rngs=rngs), nnx.Linear(8, 2, rngs=rngs)
        self.norm, self.drop = nnx.BatchNorm(8, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.out(self.drop(nnx.silu(self.norm(self.into(x)))))


def build_dropping(config):
    """The small experiment with this network."""
    graph, *_ = nnx.split(nnx.eval_shape(lambda: Dropping(nnx.Rngs(0))), nnx.Param, ...)

    def init(key):
        _, params, rest = nnx.split(Dropping(nnx.Rngs(key)), nnx.Param, ...)
        return {"params": params, "rest": rest}

    def loss(params, context, batch):
        model = nnx.merge(graph, params["params"], params["rest"])
        value = jnp.mean((model(batch["x"]) - batch["x"]) ** 2)
        return value, {"untrained": {"rest": nnx.state(model, nnx.Not(nnx.Param))}}

    def sampler(params, keys):
        model = nnx.merge(graph, params["params"], params["rest"])
        model.eval()
        return model(noise.normal(keys, (len(keys), 2)))

    return tiny.build(config)._replace(
        init=init, loss=loss, untrained=("rest",), samplers={"one": sampler}, averaged=trainer.identity
    )


@pytest.mark.parametrize("kind", ["adam", "schedule-free"])
def test_state_of_an_nnx_network_is_saved_and_resumed(tmp_path, kind):
    """A run that was interrupted ends with the same bits."""
    config = Config(optimizer=Optimizer(kind=kind, warm_up=0, decay=0.0), save_every=4)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    with jax.debug_key_reuse(False):  # it takes the choice between two keys for a second use of both
        run(build_dropping(config), whole)
        for steps in (4, config.steps):
            run(build_dropping(dataclasses.replace(config, steps=steps)), parts)
    opened = open_run(parts, build_dropping, Config)
    rest = opened.params["rest"]
    assert int(rest["drop"]["rngs"]["count"][...]) == config.steps
    assert float(jnp.abs(rest["norm"]["mean"][...]).max()) > 0
    arrays = [workdir.read_samples(folder / "samples.npz")[0]["one"] for folder in (whole, parts)]
    np.testing.assert_array_equal(*arrays)

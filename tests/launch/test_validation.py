"""The validation loss: measured before checkpoints, and the lowest one chooses what is sampled."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import checkpoint, keys, launch, noise
from jaxscore.keys import Stream
from jaxscore.launch import metrics_log, validation, workdir
from jaxscore.launch.metrics_log import NonFinite
from tests.launch import tiny
from tests.launch.tiny import Config, assert_identical, newest, saved_steps

CONFIG = Config(save_every=3, log_every=4, keep=1, keep_best=1)


@pytest.fixture(scope="module")
def middle(tmp_path_factory):
    """The averages after 6 of the 12 steps."""
    folder = tmp_path_factory.mktemp("middle") / "run"
    launch.run(tiny.build(Config(save_every=6, keep=2)), folder, mode="train")
    return launch.open_run(folder, tiny.build, Config, step=6).params


@pytest.fixture(scope="module")
def build(middle):
    """An experiment whose validation loss is lowest after 6 steps: the distance from the averages then."""
    target = jax.device_get(middle)

    def distance(params):
        squares = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), params, target)
        return sum(jax.tree.leaves(squares))

    return lambda config: tiny.build(config)._replace(validate=distance)


@pytest.fixture(scope="module")
def run(build, tmp_path_factory):
    folder = tmp_path_factory.mktemp("validated") / "run"
    launch.run(build(CONFIG), folder)
    return folder


def test_the_loss_is_logged_before_every_checkpoint(run):
    found = metrics_log.read(run / "metrics.jsonl")
    assert [row["step"] for row in found] == [3, 4, 6, 8, 9, 12]
    losses = {row["step"]: row[validation.NAME] for row in found if validation.NAME in row}
    assert list(losses) == [3, 6, 9, 12]
    assert min(losses, key=losses.get) == 6
    with checkpoint.manager(run / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.metrics == {step: losses[step] for step in (6, 12)}


def test_the_best_checkpoint_is_kept_and_is_what_is_sampled(run, build, middle):
    assert saved_steps(run) == [6, 12]
    opened = launch.open_run(run, build, Config)
    assert opened.step == 6
    assert_identical(jax.device_get(opened.params), jax.device_get(middle))
    samples, stamp = workdir.read_samples(run / "samples.npz")
    assert json.loads(stamp)["step"] == 6
    assert json.loads((run / "metrics.json").read_text())["stamp"] == stamp
    rows = noise.row_keys(keys.stream(0, Stream.SAMPLE), 20)
    drawn = opened.experiment.samplers["one"](opened.params, rows)
    np.testing.assert_allclose(samples["one"], drawn, atol=1e-5)  # one program is compiled, the other not


def test_training_goes_on_from_the_newest(run, build):
    """The same command again does nothing; the newest state is the last."""
    launch.run(build(CONFIG), run)
    assert int(newest(run, build(CONFIG)).step) == 12


def test_without_a_validation_the_newest_is_sampled(finished):
    assert all(validation.NAME not in row for row in metrics_log.read(finished.folder / "metrics.jsonl"))
    assert launch.open_run(finished.folder, tiny.build, Config).step == 12


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    experiment = tiny.build(CONFIG)._replace(validate=lambda params: jnp.nan * params["in"]["bias"].sum())
    with pytest.raises(NonFinite, match="the validation loss is nan after step 3"):
        launch.run(experiment, tmp_path / "run", mode="train")
    assert saved_steps(tmp_path / "run") == []

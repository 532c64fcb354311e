"""The experiment: what it learns from, what it draws, and a run that is killed and goes on."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import sbi
from experiments.sbi import references
from experiments.sbi.config import Config
from experiments.sbi.coordinates import chain
from experiments.sbi.references import reference
from jaxscore import keys, launch, noise
from jaxscore.keys import Stream
from jaxscore.launch import Refusal, metrics_log, validation, workdir
from jaxscore.updates import Context
from tests.experiments.pictures import ink
from tests.experiments.sbi import tiny
from tests.launch.tiny import assert_identical, newest

experiment = sys.modules["experiments.sbi.experiment"]

pytestmark = tiny.needs_package


class Killed(Exception):
    """Ends a run without a last checkpoint."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run from beginning to end, and one that was killed in step 4 and went on."""
    folder, patch = tmp_path_factory.mktemp("sbi"), pytest.MonkeyPatch()
    whole = tiny.config(folder / "whole")
    launch.run(experiment.build(whole), whole.workdir, mode="train")

    config = tiny.config(folder / "killed")
    built = experiment.build(config)

    def until(step):
        def batches(*, start=0, **given):
            for number, batch in enumerate(built.batches(start=start, **given), start):
                if number == step:
                    raise Killed
                yield batch

        return batches

    with patch.context() as here:
        here.setattr(launch.console, "say", lambda text: None)
        with pytest.raises(Killed):
            launch.run(built._replace(batches=until(3)), config.workdir)
        metrics = launch.run(built, config.workdir)
    return whole.workdir, config.workdir, metrics


def test_a_killed_run_ends_with_the_bits_of_a_whole_one(runs):
    whole, killed, _ = runs
    built = experiment.build(tiny.config(whole.parent))
    assert_identical(newest(killed, built), newest(whole, built))
    steps = [launch.open_run(folder, sbi.build, Config).step for folder in (whole, killed)]
    assert steps[0] == steps[1]


def test_a_run_makes_all_that_is_documented(runs):
    _, folder, metrics = runs
    found = json.loads((folder / "metrics.json").read_text())
    assert found["c2st"] == metrics["c2st"]
    assert len(found["c2st"]["accuracies"]) == 2
    assert set(found["calibration"]["p_values"]) == {"sbc", "likelihood", "tarp", "density"}
    assert found["settings"]["outside"] == 0  # of a bounded task, always
    assert (found["settings"]["simulations"], found["settings"]["held_out"]) == (200, 40)
    rows = {row["step"]: row for row in metrics_log.read(folder / "metrics.jsonl")}
    assert min(rows, key=lambda step: rows[step][validation.NAME]) == found["settings"]["best_step"]
    assert launch.open_run(folder, sbi.build, Config).step == found["settings"]["best_step"]
    pictures = sorted((folder / "report").glob("*.png"))
    assert {path.stem for path in pictures} == {"posterior", "calibration", "loss"}
    for path in pictures:
        assert ink(path) > 0.02


def test_a_sample_is_what_its_observation_has_alone(runs):
    """Sample 10 i + j is draw i for observation j + 1, whatever is drawn beside it."""
    _, folder, _ = runs
    run = launch.open_run(folder, sbi.build, Config)
    theta = workdir.read_samples(folder / "samples.npz")[0]["posterior"]
    assert theta.shape == (120, 2)
    numbers = np.arange(3, 120, 10)
    rows = noise.row_keys(keys.stream(0, Stream.SAMPLE), 120)[numbers]
    y = np.tile(reference("two_moons", 4).observation, (len(numbers), 1))
    alone = jax.jit(run.experiment.samplers["posterior"])(run.params, rows, y)
    np.testing.assert_allclose(theta[numbers], alone, atol=1e-4)


def test_the_validation_loss_has_fixed_noise_and_no_dropout(tmp_path):
    built = experiment.build(tiny.config(tmp_path, dropout=0.5))
    params = jax.jit(built.init)(jax.random.key(0))
    program = jax.jit(built.validate)
    assert float(program(params)) == float(program(params))
    # A network of zeros is the score of N(0, I): its error is E |z|^2 / 2 = 1, two moons have 2 numbers.
    np.testing.assert_allclose(program(params), 1, rtol=0.1)


def test_the_loss_sees_encoded_parameters_and_their_own_data(tmp_path):
    config = tiny.config(tmp_path, "gaussian_linear")
    problem, built = experiment.load(config), experiment.build(config)
    batch = next(built.batches(batch=64, seed=0))
    place = int(np.flatnonzero((problem.training.theta == batch["x"][5]).all(axis=1))[0])
    np.testing.assert_array_equal(batch["y"][5], problem.training.y[place])
    z = np.asarray(problem.parameters.encode(problem.training.theta))
    np.testing.assert_allclose(z.std(axis=0), 1, atol=1e-3)
    np.testing.assert_allclose(built.units.decode(built.units.encode(batch["x"])), batch["x"], atol=1e-5)
    params = jax.jit(built.init)(jax.random.key(0))
    value, metrics = jax.jit(built.loss)(params, Context(jax.random.key(1), jnp.int32(0), ()), batch)
    np.testing.assert_allclose(value, 5, rtol=0.2)  # ten numbers
    assert metrics["by_sigma"]["count"].sum() == 64
    assert problem.parameters is not chain()


def test_without_the_published_observations_training_is_refused(tmp_path, monkeypatch):
    """The experiment can be built without them, for observations of one's own and for --mode train."""
    monkeypatch.setattr(references, "folder", lambda: None)
    config = tiny.config(tmp_path)
    with pytest.raises(Refusal, match="pip install --no-deps sbibm"):
        launch.run(experiment.build(config), tmp_path)
    assert not list(tmp_path.rglob("checkpoints/*"))

"""Students of a trained run: what they start from, that they are runs, and what is refused."""

import dataclasses
import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import digits, distill
from experiments.common.runs import opened
from jaxscore import launch, noise, samplers
from jaxscore.launch import FlagError
from jaxscore.updates import Context
from tests.launch.tiny import assert_identical, snapshot

SMALL = {"steps": 2, "samples": 8, "batch": 8}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A conditional run, so that the conditions of the data and of the samples are needed."""
    folder = tmp_path_factory.mktemp("distill") / "run"
    config = digits.Config(workdir=folder, conditional=True, mode="train", steps=2, width=8, depth=1)
    launch.run(digits.build(config), config.workdir, mode="train")
    return folder


def config(teacher, **changed):
    return distill.Config(run=teacher, workdir=teacher.parent / changed.get("method", "s"), **SMALL | changed)


@pytest.mark.parametrize("method", ["reflow", "consistency"])
def test_a_student_is_a_run(teacher, method):
    own = config(teacher, method=method)
    found = launch.run(distill.build(own), own.workdir)
    assert list(found) >= ["one step", "two steps"]
    assert json.loads((own.workdir / "config.json").read_text())["experiment"] == "distill"
    drawn = np.load(own.workdir / "samples.npz")
    assert drawn["one step"].shape == drawn["two steps"].shape == (8, 8, 8, 1)
    student, taught = (
        launch.open_run(own.workdir, distill.build, distill.Config),
        launch.open_run(teacher),  # the experiment is found by its name
    )
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), student.params, taught.params)
    assert max(jax.tree.leaves(moved)) > 0
    sample = student.experiment.samplers["one step"]
    again = sample(student.params, noise.row_keys(jax.random.key(0), 2), jnp.zeros(2, int))
    assert again.shape == (2, 8, 8, 1)


@pytest.mark.parametrize("method", ["reflow", "consistency"])
def test_an_untrained_student_takes_eulers_step_of_its_teacher(teacher, method):
    """To zero for reflow, and to sigma_min for a consistency function."""
    own = config(teacher, method=method)
    experiment, taught = distill.build(own), launch.open_run(teacher, digits.build, digits.Config)
    params = experiment.averaged(experiment.init(jax.random.key(0)))
    assert_identical(params, taught.params)
    x, labels = 40.0 * jax.random.normal(jax.random.key(1), (4, 8, 8, 1)), jnp.arange(4)
    end = 0.0 if method == "reflow" else own.sigma_min
    sigmas = jnp.array([own.sigma_max, 0.0])
    score = partial(experiment.score, params, condition=labels)
    ours, _ = samplers.sample(jax.random.key(2), x, sigmas, score, distill.sampler(own))
    slope = -own.sigma_max * taught.score(x, jnp.full(4, own.sigma_max), labels)
    np.testing.assert_allclose(ours, x + (end - own.sigma_max) * slope, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["reflow", "consistency"])
def test_the_teacher_has_no_gradient_and_stays(teacher, method):
    experiment = distill.build(config(teacher, method=method))
    params = experiment.init(jax.random.key(0))
    batch = jax.tree.map(jnp.asarray, next(experiment.batches(batch=8, seed=0, start=0)))
    context = Context(key=jax.random.key(1), step=jnp.int32(0), ema=params["network"])
    (_, extra), gradient = jax.value_and_grad(
        lambda network: experiment.loss(params | {"network": network}, context, batch), has_aux=True
    )(params["network"])
    assert sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(gradient)) > 0
    assert_identical(extra["untrained"]["teacher"], params["teacher"])


@pytest.mark.parametrize("changed", [{"method": "consistency"}, {"run": "OTHER"}])
def test_a_student_keeps_its_teacher_and_its_method(teacher, changed, tmp_path):
    own = dataclasses.replace(config(teacher, mode="train"), workdir=tmp_path / "student")
    launch.run(distill.build(own), own.workdir, mode="train")
    if "run" in changed:
        changed = {"run": tmp_path / "other"}
        shutil.copytree(teacher, changed["run"])
    before = snapshot(own.workdir)
    other = dataclasses.replace(own, steps=3, **changed)
    with pytest.raises(launch.Refusal, match=r"^--(method|run): .* was trained with another"):
        launch.run(distill.build(other), own.workdir, mode="train")
    assert snapshot(own.workdir) == before


def test_a_shift_that_no_level_fits_is_refused(teacher):
    for shift in (1e30, 1e-9):
        with pytest.raises(FlagError, match=r"^--shift .*: times the standard deviation of x is"):
            distill.build(config(teacher, shift=shift))


def test_a_students_missing_teacher_is_named(teacher, tmp_path):
    own = dataclasses.replace(config(teacher, mode="train"), workdir=tmp_path / "s", run=tmp_path / "t")
    shutil.copytree(teacher, own.run)
    launch.run(distill.build(own), own.workdir, mode="train")
    shutil.rmtree(own.run)
    with pytest.raises(launch.Refusal, match=r"^--run \S+/s: its --run \S+/t: holds no run"):
        opened(own.workdir)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--run nowhere", "--run nowhere: holds no run of an experiment"),
        ("--sigma-middle 50", "--sigma-middle 50.0: must lie between --sigma-min and --sigma-max"),
        ("--copies 3", "--copies 3: must divide --batch / --microbatches, which is 256"),
        ("--microbatches 64 --copies 8", "--copies 8: must divide --batch / --microbatches, which is 4"),
        ("--run runs/distill", "--run runs/distill: is the --workdir; name another folder for the student"),
        ("--cells 3000000000", "--cells 3000000000"),
        ("--levels 1", "--levels 1"),
    ],
)
def test_bad_input_is_one_line_and_status_2(refused, words, said):
    assert refused("distill", words).startswith(said)

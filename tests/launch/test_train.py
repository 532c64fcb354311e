"""Training: what is logged and saved, a crash that loses nothing, and losses that are not finite."""

import itertools
import re

import chex
import jax
import numpy as np
import pytest

from jaxscore import checkpoint, launch, sharding
from jaxscore.launch import metrics_log, programs
from jaxscore.launch.config import Optimizer
from jaxscore.launch.metrics_log import NonFinite
from jaxscore.launch.workdir import Refusal
from tests.grids import rest
from tests.launch import tiny
from tests.launch.tiny import BAD_GRADIENT, BAD_LOSS, Config, assert_identical, newest, rows, saved_steps

# Logged and saved -----------------------------------------------------------------------------


def test_a_row_has_the_mean_loss_of_its_interval(finished, every_step):
    """And a loss for every bin of sigma."""
    found = rows(finished.folder)
    assert [row["step"] for row in found] == [4, 8, 12]
    for row in found:
        assert set(row) == {"step", "loss", "grad_norm", "loss_by_sigma", "sigma_edges"}
        assert len(row["loss_by_sigma"]) == 3
        assert all(0 < loss < 10 for loss in row["loss_by_sigma"])
        interval = [each["loss"] for each in every_step if row["step"] - 4 < each["step"] <= row["step"]]
        # The mean of the same four float32 numbers, in the same order.
        assert row["loss"] == pytest.approx(np.mean(interval), rel=1e-6)
    assert all(row["steps_per_second"] > 0 for row in metrics_log.read(finished.folder / "metrics.jsonl"))


def test_parameters_and_their_average_move_apart(finished):
    state = newest(finished.folder, finished.experiment)
    assert int(state.step) == 12
    start = jax.device_get(programs.init_state(finished.experiment)(jax.random.key(0)))
    last = [jax.tree.leaves(params)[-1] for params in (state.params, state.ema, start.params)]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(last, 2))


def test_the_newest_the_best_and_every_so_many_are_kept(tmp_path):
    config = Config(steps=6, log_every=1, save_every=1, keep=1, keep_best=1, keep_every=4)
    launch.run(tiny.build(config), tmp_path / "run", mode="train")
    best = min(rows(tmp_path / "run"), key=lambda row: row["loss"])["step"]
    assert saved_steps(tmp_path / "run") == sorted({6, best, 4})


# Crashes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "resumes_from"), [(8, 6), rest(3, 0), rest(11, 6)])
def test_a_crash_between_checkpoints_ends_with_the_same_bits(finished, tmp_path, step, resumes_from):
    folder = tmp_path / "run"
    with pytest.raises(RuntimeError, match="power cut"):
        launch.run(tiny.build(Config(), tiny.hooks(before={step: tiny.crash})), folder)
    assert saved_steps(folder) == ([resumes_from] if resumes_from else [])

    hooks, asked_for = tiny.asked_for()
    experiment = tiny.build(Config(), hooks)
    launch.run(experiment, folder, mode="train")
    assert asked_for == list(range(resumes_from, 12))
    assert_identical(newest(folder, experiment), newest(finished.folder, experiment))
    # Rows after the checkpoint were written twice and are there once, as in the other run, but that
    # an interval cut by the restart (steps 5-8, resumed from 6) averages what came after it.
    found, expected = rows(folder), rows(finished.folder)
    assert [row["step"] for row in found] == [4, 8, 12]
    whole = [n for n in range(3) if resumes_from != 6 or n != 1]
    assert [found[n] for n in whole] == [expected[n] for n in whole]


# Not finite -----------------------------------------------------------------------------------


def assert_all_finite(folder) -> None:
    abstract = programs.abstract_state(tiny.build(Config()), sharding.mesh())
    with checkpoint.manager(folder / "checkpoints") as checkpoints:
        for step in checkpoints.orbax.all_steps():
            state = checkpoint.restore(checkpoints, step, abstract)
            assert int(state.step) == step
            chex.assert_tree_all_finite(state)


@pytest.mark.parametrize(
    ("kind", "step", "save_every", "good"),
    [
        (BAD_LOSS, 2, 6, []),
        (BAD_GRADIENT, 10, 3, [6, 9]),
        rest(BAD_LOSS, 10, 6, [6]),
        rest(BAD_LOSS, 12, 100, []),
        rest(BAD_GRADIENT, 10, 2, [6, 8]),
    ],
)
def test_what_is_not_finite_is_never_saved(finished, tmp_path, every_step, kind, step, save_every, good):
    """The run ends in one line, and the next one goes on from the last good checkpoint."""
    folder, name = tmp_path / "run", {BAD_LOSS: "loss", BAD_GRADIENT: "grad_norm"}[kind]
    hooks = tiny.hooks(plant={step - 1: kind})  # batches count from 0, steps done from 1
    with pytest.raises(NonFinite) as caught:
        launch.run(tiny.build(Config(save_every=save_every), hooks), folder)
    newest_good = folder / "checkpoints" / str(good[-1]) if good else "none yet"
    line = (
        rf"{name} is nan at step {step}; last finite loss: (\S+) at step {step - 1}; "
        rf"newest good checkpoint: {newest_good}; lower --optimizer.learning-rate.*"
    )
    (loss,) = re.fullmatch(line, str(caught.value)).groups()
    # Printed with six digits.
    assert float(loss) == pytest.approx(every_step[step - 2]["loss"], rel=1e-5)
    assert saved_steps(folder) == good
    assert_all_finite(folder)
    assert not (folder / "samples.npz").exists()
    assert all(row["step"] < step for row in rows(folder))
    experiment = tiny.build(Config())
    launch.run(experiment, folder, mode="train")
    assert_identical(newest(folder, experiment), newest(finished.folder, experiment))


def test_if_the_first_loss_is_not_finite_the_line_says_so(tmp_path):
    with pytest.raises(
        NonFinite, match=r"at step 1; last finite loss: there was none;.*: none yet; check the data"
    ):
        launch.run(tiny.build(Config(), tiny.hooks(plant={0: BAD_LOSS})), tmp_path / "run")


def test_an_update_that_overflows_is_not_saved(tmp_path):
    # Loss and gradient of the last step are finite; what the optimiser makes of them is not: the
    # rate is beyond float32.
    config = Config(steps=1, optimizer=Optimizer(learning_rate=1e39, warm_up=0, decay=0.0))
    with pytest.raises(NonFinite, match=r"a parameter is not finite after step 1; newest good .* none yet"):
        launch.run(tiny.build(config), tmp_path / "run")
    assert saved_steps(tmp_path / "run") == []


@pytest.mark.parametrize("kind", [BAD_LOSS, BAD_GRADIENT])
def test_a_step_that_is_not_finite_is_skipped_if_asked_for(tmp_path, every_step, kind):
    folder, config = tmp_path / "run", Config(nonfinite="skip", save_every=3)
    experiment = tiny.build(config, tiny.hooks(plant={6: kind}))
    launch.run(experiment, folder, mode="train")
    assert saved_steps(folder) == [9, 12]
    assert_all_finite(folder)
    found = rows(folder)
    assert [row["skipped"] for row in found] == [0, 1, 0]
    # The average is over the other three: steps 5 and 6, as in a run without the fault, and 8.
    assert found[0]["loss"] == pytest.approx(np.mean([row["loss"] for row in every_step[:4]]), rel=1e-6)
    assert all(np.isfinite(row["loss"]) for row in found)
    # Nothing else of the step is left: the same run without it, but for its number.
    assert np.isfinite(found[1]["grad_norm"])


def test_a_run_that_has_nothing_but_steps_to_skip_ends(tmp_path):
    config = Config(nonfinite="skip", steps=40)
    hooks = tiny.hooks(plant=dict.fromkeys(range(3, 40), BAD_LOSS))
    with pytest.raises(NonFinite, match=r"the 20 steps up to 23 had no finite .*newest good .*18;"):
        launch.run(tiny.build(config, hooks), tmp_path / "run", mode="train")
    assert_all_finite(tmp_path / "run")
    found = rows(tmp_path / "run")
    assert [row["skipped"] for row in found] == [1, 4, 4, 4, 4]
    assert found[1] == {"step": 8, "loss": None, "grad_norm": None, "skipped": 4}


# Sources of batches -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batches", "said"),
    [([], "experiment.batches ended"), ([{"x": np.zeros((15, 2))}], "'x': 15} rows; --batch 16")],
)
def test_batches_that_end_or_have_other_rows_are_refused(tmp_path, batches, said):
    experiment = tiny.build(Config())._replace(batches=lambda **given: iter(batches))
    with pytest.raises(Refusal, match=said):
        launch.run(experiment, tmp_path / "run", mode="train")


def test_an_iterator_need_not_be_a_generator(tmp_path):
    experiment = tiny.build(Config(steps=2))
    forever = lambda **given: itertools.chain(experiment.batches(**given))
    launch.run(experiment._replace(batches=forever), tmp_path / "run", mode="train")
    assert saved_steps(tmp_path / "run") == [2]

"""Runs of a small experiment, whole and interrupted, on eight simulated devices."""

import dataclasses
import json
import os
import re
import shutil
import signal
import sys
import threading

import jax
import matplotlib.image
import numpy as np
import pytest

import jaxscore
from jaxscore import checkpoint, launch, sharding
from jaxscore.checkpoint import CheckpointError
from jaxscore.data import DataError
from jaxscore.launch import Interrupted, metrics_log, programs, workdir
from jaxscore.launch.config import Optimizer
from jaxscore.launch.flags import FlagError
from jaxscore.launch.metrics_log import NonFinite
from jaxscore.launch.signals import Signals
from jaxscore.launch.workdir import Refusal
from tests.launch import tiny
from tests.launch.tiny import BAD_GRADIENT, BAD_LOSS, Config, assert_identical, newest, snapshot


@dataclasses.dataclass
class Run:
    folder: object
    experiment: object
    hooks: tiny.Hooks
    metrics: dict
    output: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run from beginning to end, which nothing disturbs; tests only look at it."""
    folder, hooks = tmp_path_factory.mktemp("finished") / "run", tiny.hooks()
    experiment = tiny.build(Config(), hooks)
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch.console, "say", said.append)
        metrics = launch.run(experiment, folder)
    return Run(folder, experiment, hooks, metrics, "\n".join(said))


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run's folder, to go on with."""
    return shutil.copytree(finished.folder, tmp_path / "copy", copy_function=shutil.copy2)


@pytest.fixture(scope="module")
def every_step(tmp_path_factory):
    """The rows of the same training, one for each step."""
    folder = tmp_path_factory.mktemp("every_step") / "run"
    launch.run(tiny.build(Config(log_every=1)), folder, mode="train")
    return metrics_log.read(folder / "metrics.jsonl")


def rows(folder) -> list[dict]:
    """What metrics.jsonl says, without the speed."""
    return [
        {name: value for name, value in row.items() if name not in ("steps_per_second", "input_wait")}
        for row in metrics_log.read(folder / "metrics.jsonl")
    ]


def saved_steps(folder) -> list[int]:
    with checkpoint.manager(folder / "checkpoints") as checkpoints:
        return sorted(checkpoints.orbax.all_steps())


def kill(number):
    return lambda: os.kill(os.getpid(), number)


# A whole run ----------------------------------------------------------------------------------


def test_the_folder_holds_what_is_documented(finished):
    names = {path.name for path in finished.folder.iterdir()}
    documented = ["config.json", "metrics.jsonl", "checkpoints", "samples.npz", "metrics.json", "report"]
    assert names == {*documented, "sampling.json"}
    assert saved_steps(finished.folder) == [6, 12]


def test_the_configuration_is_beside_the_checkpoints(finished):
    found = json.loads((finished.folder / "config.json").read_text())
    assert found == workdir.describe("tiny", Config())


def test_every_interval_has_a_row_with_a_loss_for_every_bin_of_sigma(finished, every_step):
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


def test_samples_have_their_names_shapes_and_types(finished):
    samples, stamp = workdir.read_samples(finished.folder / "samples.npz")
    assert {name: (array.shape, array.dtype) for name, array in samples.items()} == {
        "one": ((20, 2), np.float32),  # 20 rows from chunks of 16, by 8 devices
        "start": ((20, 2), np.float32),
        "length": ((20,), np.float32),
    }
    assert stamp == workdir.stamp(workdir.describe("tiny", Config()), 12)
    assert all(np.isfinite(array).all() for array in samples.values())
    assert len(np.unique(samples["one"], axis=0)) == 20  # no chunk is drawn twice
    np.testing.assert_allclose(samples["length"], np.sum(samples["start"] ** 2, axis=1), rtol=1e-6)


def test_the_metrics_are_those_of_the_samples_and_are_written(finished):
    samples, stamp = workdir.read_samples(finished.folder / "samples.npz")
    found = json.loads((finished.folder / "metrics.json").read_text())
    assert found == finished.metrics
    assert found["n"] == 20
    assert found["mean"] == samples["one"].mean(axis=0).tolist()
    assert found["stamp"] == stamp
    assert set(found["sampling"]) == {"one", "two"}
    for cost in found["sampling"].values():
        assert cost["seconds"] > 0
        assert cost["compile_seconds"] > 0


def test_the_pictures_and_the_table_are_shown(finished):
    picture = finished.folder / "report" / "points.png"
    assert np.ptp(matplotlib.image.imread(picture)[..., :3]) > 0
    assert f"picture: {picture}" in finished.output
    assert re.search(r"^samples +mean\n-+\n20 +-?\d\.\d{3}$", finished.output, re.M)


def test_the_average_differs_from_the_parameters_and_both_have_moved(finished):
    state = newest(finished.folder, finished.experiment)
    assert int(state.step) == 12
    start = jax.device_get(programs.init_state(finished.experiment)(jax.random.key(0)))
    for name in ("params", "ema"):
        assert not np.array_equal(
            jax.tree.leaves(getattr(state, name))[-1], jax.tree.leaves(start.params)[-1]
        )
    different = jax.tree.map(lambda a, b: not np.array_equal(a, b), state.params, state.ema)
    assert any(jax.tree.leaves(different))


def test_the_seed_is_the_root_of_all_randomness(finished, tmp_path):
    other = tiny.build(Config(seed=1))
    launch.run(other, tmp_path / "run")
    ours, theirs = newest(finished.folder, finished.experiment), newest(tmp_path / "run", other)
    kernels = lambda state: [leaf for leaf in jax.tree.leaves(state.params) if np.ndim(leaf) == 2]
    assert kernels(ours)
    assert not any(np.array_equal(a, b) for a, b in zip(kernels(ours), kernels(theirs), strict=True))
    ours, theirs = (workdir.read_samples(f / "samples.npz")[0] for f in (finished.folder, tmp_path / "run"))
    assert not np.any(ours["start"] == theirs["start"])


# Doing nothing twice --------------------------------------------------------------------------


def test_a_second_run_does_nothing_and_returns_the_same(finished, copy):
    hooks = tiny.hooks()
    times = lambda: {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}
    before, before_times = snapshot(copy), times()
    assert launch.run(tiny.build(Config(), hooks), copy) == finished.metrics
    assert {"sampler", "evaluate", "report"} & set(hooks.calls) == set()
    assert set(finished.hooks.calls) == {"init", "sampler", "evaluate", "report"}  # counting does work
    assert snapshot(copy) == before
    after = times()
    changed = {path.name for path in before_times if after[path] != before_times[path]}
    assert changed <= {"config.json"}  # written again as it was


@pytest.mark.parametrize("missing", ["metrics.json", "report"])
def test_a_missing_result_is_made_again_and_nothing_else(finished, copy, missing):
    path = copy / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    hooks = tiny.hooks()
    assert launch.run(tiny.build(Config(), hooks), copy) == finished.metrics
    assert hooks.calls["evaluate"] == hooks.calls["report"] == 1
    assert hooks.calls["sampler"] == 0
    assert path.exists()


def test_damaged_samples_are_drawn_again(finished, copy):
    path = copy / "samples.npz"
    whole = workdir.read_samples(path)[0]
    path.write_bytes(path.read_bytes()[:300])
    launch.run(tiny.build(Config()), copy)
    assert_identical(workdir.read_samples(path)[0], whole)


def test_samples_of_other_settings_are_drawn_again(copy, capsys):
    hooks = tiny.hooks()
    metrics = launch.run(tiny.build(Config(samples=24), hooks), copy)
    assert metrics["n"] == 24
    assert hooks.calls == {"init": hooks.calls["init"], "sampler": 2, "evaluate": 1, "report": 1}
    assert "the configuration has changed: samples: 20 -> 24\n" in capsys.readouterr().out
    assert json.loads((copy / "config.json").read_text())["samples"] == 24


# Modes ----------------------------------------------------------------------------------------


def test_the_modes_in_turn_are_a_whole_run(finished, tmp_path):
    experiment, folder = tiny.build(Config()), tmp_path / "run"
    for mode in ("sample", "evaluate"):
        with pytest.raises(Refusal, match=f"--mode {mode}: no checkpoint in .*; train first"):
            launch.run(experiment, folder, mode=mode)
        assert not folder.exists()

    assert launch.run(experiment, folder, mode="train") == {}
    assert saved_steps(folder) == [6, 12]
    trained = snapshot(folder)
    assert {"samples.npz", "metrics.json", "report"} & set(trained) == set()

    with pytest.raises(Refusal, match="no samples of its newest checkpoint; sample first"):
        launch.run(experiment, folder, mode="evaluate")
    assert snapshot(folder) == trained

    assert launch.run(experiment, folder, mode="sample") == {}
    assert {"samples.npz", "sampling.json"} == set(snapshot(folder)) - set(trained)

    metrics = launch.run(experiment, folder, mode="evaluate")
    without_times = lambda metrics: {k: v for k, v in metrics.items() if k != "sampling"}
    assert without_times(metrics) == without_times(finished.metrics)
    top = lambda folder: {path.name for path in folder.iterdir()}
    assert top(folder) == top(finished.folder)


def test_an_empty_folder_of_checkpoints_is_refused(copy):
    shutil.rmtree(copy / "checkpoints")
    (copy / "checkpoints").mkdir()
    before = snapshot(copy)
    with pytest.raises(Refusal, match=r"--mode sample: no checkpoint in .*; train first"):
        launch.run(tiny.build(Config()), copy, mode="sample")
    assert snapshot(copy) == before


# Samples --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("samples", "chunk"), [(20, 1), (20, 8), (20, 1000), (3, 16), (50, 24)])
def test_a_sample_depends_on_its_number_alone(finished, copy, samples, chunk):
    config = Config(samples=samples, sample_batch=chunk)
    (copy / "samples.npz").unlink()  # else those of the same settings would be kept
    launch.run(tiny.build(config), copy, mode="sample")
    ours, _ = workdir.read_samples(copy / "samples.npz")
    theirs, _ = workdir.read_samples(finished.folder / "samples.npz")
    both = min(samples, 20)
    for name in ("one", "start", "length"):
        assert len(ours[name]) == samples
        assert len(np.unique(ours[name], axis=0)) == samples
        # Matrix products of other sizes round differently; two different samples differ by about 1.
        np.testing.assert_allclose(ours[name][:both], theirs[name][:both], rtol=1e-5, atol=1e-5)


# Stopped and resumed --------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "step"), [(signal.SIGTERM, 0), (signal.SIGINT, 6), (signal.SIGTERM, 10)])
def test_a_signal_stops_the_run_and_the_next_one_ends_with_the_same_bits(finished, tmp_path, number, step):
    folder, handlers = tmp_path / "run", [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted) as caught:
        launch.run(tiny.build(Config(), tiny.hooks(before={step: kill(number)})), folder)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    stopped = saved_steps(folder)[-1]
    # The step whose batch was under way is finished; a signal to oneself may come a moment late.
    assert step + 1 <= stopped <= step + 2
    assert str(caught.value) == f"stopped at step {stopped}, saved in {folder / 'checkpoints'}"
    assert not (folder / "samples.npz").exists()
    logged = {stopped, *(n for n in (4, 8, 12) if n <= stopped)}
    assert [row["step"] for row in rows(folder)] == sorted(logged)

    experiment = tiny.build(Config())
    metrics = launch.run(experiment, folder)
    assert metrics["mean"] == finished.metrics["mean"]
    assert_identical(newest(folder, experiment), newest(finished.folder, experiment))
    assert [row["step"] for row in rows(folder)] == sorted({stopped, 4, 8, 12})


def test_a_run_may_be_stopped_after_every_step(finished, tmp_path):
    folder = tmp_path / "run"
    experiment = tiny.build(
        Config(), tiny.hooks(before={step: kill(signal.SIGTERM) for step in range(0, 12, 3)})
    )
    for _ in range(12):
        try:
            launch.run(experiment, folder, mode="train")
        except Interrupted:
            continue
        break
    assert_identical(newest(folder, experiment), newest(finished.folder, experiment))
    steps = [row["step"] for row in rows(folder)]
    assert steps == sorted(set(steps))
    assert {4, 8, 12} <= set(steps)


@pytest.mark.parametrize(("step", "resumes_from"), [(3, 0), (8, 6), (11, 6)])
def test_a_crash_between_checkpoints_ends_with_the_same_bits(finished, tmp_path, step, resumes_from):
    folder = tmp_path / "run"

    def crash():
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        launch.run(tiny.build(Config(), tiny.hooks(before={step: crash})), folder)
    assert saved_steps(folder) == ([resumes_from] if resumes_from else [])

    asked_for = []
    hooks = tiny.hooks(before={n: lambda n=n: asked_for.append(n) for n in range(20)})
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


def test_an_unfinished_save_is_ignored(finished, copy):
    # What a process that is killed while it writes leaves behind.
    shutil.rmtree(copy / "checkpoints" / "12")
    (copy / "checkpoints" / "12.orbax-checkpoint-tmp").mkdir()
    (copy / "checkpoints" / "12.orbax-checkpoint-tmp" / "state").mkdir()
    experiment = tiny.build(Config())
    launch.run(experiment, copy, mode="train")
    assert_identical(newest(copy, experiment), newest(finished.folder, experiment))


def test_more_steps_go_on_from_those_done(finished, copy, capsys):
    asked_for = []
    hooks = tiny.hooks(before={n: lambda n=n: asked_for.append(n) for n in range(30)})
    config = Config(steps=18, optimizer=Optimizer(warm_up=2, b2=0.98))
    experiment = tiny.build(config, hooks)
    launch.run(experiment, copy)
    assert asked_for == [12, 13, 14, 15, 16, 17]
    changed = "the configuration has changed: steps: 12 -> 18; optimizer.b2: 0.99 -> 0.98\n"
    assert changed in capsys.readouterr().out
    assert int(newest(copy, experiment).step) == 18
    assert [row["step"] for row in rows(copy)] == [4, 8, 12, 16, 18]
    assert rows(copy)[:3] == rows(finished.folder)
    # What was made from step 12 is out of date, and made again.
    assert hooks.calls["sampler"] == 2
    assert hooks.calls["evaluate"] == 1
    assert '"step": 18' in workdir.read_samples(copy / "samples.npz")[1]
    assert json.loads((copy / "config.json").read_text())["steps"] == 18


def test_a_signal_while_sampling_leaves_no_half_of_the_samples(finished, tmp_path, monkeypatch):
    compile_sampler, folder = launch.sample.compile_sampler, tmp_path / "run"

    def interrupted(*arguments):
        kill(signal.SIGTERM)()
        return compile_sampler(*arguments)

    monkeypatch.setattr(launch.sample, "compile_sampler", interrupted)
    with pytest.raises(Interrupted, match="stopped while sampling"):
        launch.run(tiny.build(Config()), folder)
    assert saved_steps(folder) == [6, 12]
    assert not (folder / "samples.npz").exists()
    monkeypatch.undo()
    assert launch.run(tiny.build(Config()), folder)["mean"] == finished.metrics["mean"]


def test_the_second_signal_acts():
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # shells have jobs in the background ignore it
    try:
        with Signals() as signals:
            assert not signals.received
            signal.raise_signal(signal.SIGINT)
            assert signals.received
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_signals_are_left_alone():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with Signals() as signals:
            seen.append((signals.received, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


# Refusals -------------------------------------------------------------------------------------


def test_fewer_steps_than_done_are_refused(copy):
    before = snapshot(copy)
    with pytest.raises(Refusal, match=r"^--steps 11: .* has been trained for 12 steps") as caught:
        launch.run(tiny.build(Config(steps=11)), copy)
    assert "\n" not in str(caught.value)
    assert snapshot(copy) == before


def test_a_batch_that_the_devices_do_not_divide_is_refused(tmp_path):
    with pytest.raises(FlagError, match=r"^--batch 12: must be divisible by the 8 devices$"):
        launch.run(tiny.build(Config(batch=12)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_network_is_refused_and_not_harmed(finished, copy):
    before = snapshot(copy)
    for mode in ("all", "train", "sample"):
        with pytest.raises(CheckpointError) as caught:
            launch.run(tiny.build(Config(width=16)), copy, mode=mode)
        text = str(caught.value)
        assert "\n" not in text
        assert str(copy / "checkpoints" / "12") in text
        # Alphabetically the first parameter that does not fit.
        assert "/in/bias is float32[8], here it is float32[16]" in text
        assert "width: 8 -> 16" in text
    assert snapshot(copy) == before
    assert launch.run(tiny.build(Config()), copy) == finished.metrics


@pytest.mark.parametrize("field", ["sample_batch", "log_every", "save_every"])
def test_a_field_without_effect_changes_nothing(finished, copy, capsys, field):
    hooks = tiny.hooks()
    assert launch.run(tiny.build(Config(**{field: 5}), hooks), copy) == finished.metrics
    assert {"sampler", "evaluate", "report"} & set(hooks.calls) == set()
    assert "has changed" not in capsys.readouterr().out


def test_the_folder_of_another_experiment_is_refused(copy):
    before = snapshot(copy)
    with pytest.raises(Refusal, match="holds a run of tiny"):
        launch.run(tiny.build(Config(), name="other"), copy)
    assert snapshot(copy) == before


def test_a_full_disk_is_refused_before_training(tmp_path, monkeypatch):
    free = shutil._ntuple_diskusage(total=2e9, used=2e9, free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(Refusal, match="no disk space"):
        launch.run(tiny.build(Config()), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def damage(folder, step) -> None:
    """A flipped bit in the largest file of a checkpoint."""
    path = max((path for path in (folder / "checkpoints" / str(step)).rglob("*") if path.is_file()), key=size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def size(path) -> int:
    return path.stat().st_size


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_goes_on(finished, copy, capsys):
    damage(copy, 12)
    experiment = tiny.build(Config())
    launch.run(experiment, copy, mode="train")
    named = rf"^checkpoint {copy / 'checkpoints' / '12'} is damaged: .*; moved to .*checkpoints-damaged.12$"
    assert re.search(named, capsys.readouterr().out, re.M)
    assert_identical(newest(copy, experiment), newest(finished.folder, experiment))
    assert (copy / "checkpoints-damaged" / "12").is_dir()


def test_checkpoints_that_are_all_damaged_are_one_line_and_training_does_not_start_anew(copy):
    damage(copy, 6)
    damage(copy, 12)
    before = snapshot(copy)
    with pytest.raises(CheckpointError) as caught:
        launch.run(tiny.build(Config()), copy)
    assert "\n" not in str(caught.value)
    assert f"no checkpoint in {copy / 'checkpoints'} is good: 12: " in str(caught.value)
    assert snapshot(copy) == before


def test_a_checkpoint_says_what_it_is_of(finished):
    with checkpoint.manager(finished.folder / "checkpoints", read_only=True) as checkpoints:
        about = checkpoint.about(checkpoints, 12)
    assert about == workdir.describe("tiny", Config()) | {"jaxscore": jaxscore.__version__}


def test_the_newest_the_best_and_every_so_many_are_kept(tmp_path, every_step):
    config = Config(save_every=1, keep=1, keep_best=1, keep_every=5)
    launch.run(tiny.build(config), tmp_path / "run", mode="train")
    best = min(every_step, key=lambda row: row["loss"])["step"]
    assert saved_steps(tmp_path / "run") == sorted({12, best, 5, 10})


# Not finite -----------------------------------------------------------------------------------


def assert_all_finite(folder) -> None:
    experiment = tiny.build(Config())
    abstract = programs.abstract_state(experiment, sharding.mesh())
    with checkpoint.manager(folder / "checkpoints") as checkpoints:
        for step in checkpoints.orbax.all_steps():
            state = checkpoint.restore(checkpoints, step, abstract)
            assert int(state.step) == step
            for leaf in jax.tree.leaves(jax.device_get(state)):
                assert np.isfinite(leaf).all()


@pytest.mark.parametrize(
    ("kind", "step", "save_every", "good"),
    [
        (BAD_LOSS, 10, 6, 6),
        (BAD_LOSS, 12, 100, None),
        (BAD_LOSS, 1, 6, None),
        (BAD_GRADIENT, 10, 2, 8),
        (BAD_GRADIENT, 10, 3, 9),
    ],
)
def test_what_is_not_finite_is_never_saved(tmp_path, every_step, kind, step, save_every, good):
    folder = tmp_path / "run"
    config = Config(save_every=save_every)
    hooks = tiny.hooks(plant={step - 1: kind})  # batches count from 0, steps done from 1
    with pytest.raises(NonFinite) as caught:
        launch.run(tiny.build(config, hooks), folder)
    text, name = str(caught.value), "loss" if kind == BAD_LOSS else "grad_norm"
    assert "\n" not in text
    assert text.startswith(f"{name} is nan at step {step}; last finite loss: ")
    if step == 1:
        assert "last finite loss: there was none;" in text
    else:
        loss, at = re.search(r"last finite loss: (\S+) at step (\d+);", text).groups()
        assert int(at) == step - 1
        # Printed with six digits.
        assert float(loss) == pytest.approx(every_step[step - 2]["loss"], rel=1e-5)
    newest_good = "none yet" if good is None else folder / "checkpoints" / str(good)
    assert f"; newest good checkpoint: {newest_good}; lower --optimizer.learning-rate" in text
    assert saved_steps(folder)[-1:] == ([good] if good else [])
    assert_all_finite(folder)
    assert not (folder / "samples.npz").exists()
    assert all(row["step"] < step for row in rows(folder))


def test_a_run_goes_on_from_the_last_good_checkpoint(finished, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(NonFinite):
        launch.run(tiny.build(Config(), tiny.hooks(plant={9: BAD_LOSS})), folder)
    experiment = tiny.build(Config())
    launch.run(experiment, folder, mode="train")
    assert_identical(newest(folder, experiment), newest(finished.folder, experiment))


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
    with pytest.raises(
        NonFinite, match=r"the 20 steps up to 23 had no finite .*newest good checkpoint: .*18;"
    ):
        launch.run(tiny.build(config, hooks), tmp_path / "run", mode="train")
    assert_all_finite(tmp_path / "run")
    found = rows(tmp_path / "run")
    assert [row["skipped"] for row in found] == [1, 4, 4, 4, 4]
    assert found[1] == {"step": 8, "loss": None, "grad_norm": None, "skipped": 4}


# The command ----------------------------------------------------------------------------------


def command(monkeypatch, build, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["tiny", *arguments])
    launch.main(build, Config())


@pytest.mark.parametrize(
    "error",
    [
        FlagError("--width 3: must be even"),
        Refusal("--workdir x: no"),
        DataError("no data at x"),
        CheckpointError("checkpoint x cannot be read"),
        NonFinite("loss is nan at step 3"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_status_2(monkeypatch, capsys, error):
    def build(config):
        raise error

    with pytest.raises(SystemExit) as caught:
        command(monkeypatch, build)
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"error: {error}\n"


def test_an_operating_system_error_is_one_line_that_names_the_file(monkeypatch, capsys):
    def build(config):
        raise PermissionError(13, "Permission denied", "/data/images.npz")

    with pytest.raises(SystemExit) as caught:
        command(monkeypatch, build)
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: /data/images.npz: Permission denied\n"


def test_a_signal_before_the_run_listens_is_one_line(monkeypatch, capsys):
    def build(config):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        command(monkeypatch, build)
    assert caught.value.code == 130  # what a shell says of a program stopped by Ctrl-C
    assert re.fullmatch(r"error: interrupted[^\n]*\n", capsys.readouterr().err)


def test_a_mistake_in_the_code_keeps_its_traceback(monkeypatch):
    def build(config):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command(monkeypatch, build)


def test_the_command_runs_what_its_flags_say(finished, copy, monkeypatch, capsys):
    command(monkeypatch, tiny.build, "--workdir", str(copy), "--mode", "evaluate")
    output = capsys.readouterr()
    assert output.err == ""
    assert f"picture: {copy / 'report' / 'points.png'}" in output.out
    with pytest.raises(SystemExit) as caught:
        command(monkeypatch, tiny.build, "--workdir", str(copy), "--width", "16")
    assert caught.value.code == 2
    assert "is of another network" in capsys.readouterr().err


def test_an_interrupted_command_says_where_and_is_no_error(tmp_path, monkeypatch, capsys):
    hooks = tiny.hooks(before={4: kill(signal.SIGINT)})
    command(monkeypatch, lambda config: tiny.build(config, hooks), "--workdir", str(tmp_path / "run"))
    output = capsys.readouterr()
    assert output.err == ""
    assert re.search(r"^stopped at step [56], saved in \S+; run again to go on from there$", output.out, re.M)

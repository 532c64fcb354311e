"""A run from flags to pictures: what its folder holds, what is done again, and what is refused."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from unittest import mock

import jax
import numpy as np
import pytest

from jaxscore import checkpoint, launch
from jaxscore.checkpoint import CheckpointError
from jaxscore.data import DataError
from jaxscore.launch import provenance, workdir
from jaxscore.launch.config import Optimizer
from jaxscore.launch.flags import FlagError
from jaxscore.launch.metrics_log import NonFinite
from jaxscore.launch.workdir import Refusal
from tests.checkpoint.folders import array_file, files, flip, names_in
from tests.grids import rest
from tests.launch import tiny
from tests.launch.tiny import RENEWED, Config, assert_identical, kill, newest, rows, saved_steps, snapshot

# The folder -----------------------------------------------------------------------------------


TRAINED = {"config.json", "launches.jsonl", "metrics.jsonl", "checkpoints", "report"}
DOCUMENTED = TRAINED | {"samples.npz", "sampling.json", "metrics.json"}


def test_the_folder_and_its_checkpoints_hold_what_is_documented(finished):
    assert names_in(finished.folder) == DOCUMENTED
    assert saved_steps(finished.folder) == [6, 12]
    expected = provenance.describe(finished.experiment, finished.folder)
    assert json.loads((finished.folder / "config.json").read_text()) == expected
    with checkpoint.manager(finished.folder / "checkpoints", read_only=True) as checkpoints:
        about = checkpoint.about(checkpoints, 12)
    assert about == expected


def test_the_seed_is_the_root_of_all_randomness(finished, tmp_path):
    other = tiny.build(Config(seed=1))
    launch.run(other, tmp_path / "run")
    ours, theirs = newest(finished.folder, finished.experiment), newest(tmp_path / "run", other)
    for layer in ("in", "out"):
        assert not np.array_equal(ours.params[layer]["kernel"], theirs.params[layer]["kernel"])
    ours, theirs = (workdir.read_samples(f / "samples.npz")[0] for f in (finished.folder, tmp_path / "run"))
    assert not np.any(ours["start"] == theirs["start"])


@pytest.mark.parametrize(
    ("changes", "rewritten"),
    [({}, set()), ({"sample_batch": 5, "log_every": 5, "save_every": 5}, {"config.json"})],
    ids=["the same", "fields without effect"],
)
def test_a_second_run_does_nothing_and_returns_the_same(finished, copy, capsys, changes, rewritten):
    hooks = tiny.hooks()
    kept = lambda: (path for path in files(copy) if path.name not in ("config.json", "report"))
    renewed = {copy / name for name in RENEWED}
    times = lambda: {path: path.stat().st_mtime_ns for path in kept() if path not in renewed}
    before, before_times = snapshot(copy), times()
    assert launch.run(tiny.build(Config(**changes), hooks), copy) == finished.metrics
    assert set(hooks.calls) <= {"init"}
    assert "has changed" not in capsys.readouterr().out
    assert times() == before_times
    after = snapshot(copy)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} - RENEWED == rewritten


def test_more_steps_go_on_from_those_done(finished, copy, capsys):
    hooks, asked_for = tiny.asked_for()
    config = Config(steps=18, optimizer=Optimizer(warm_up=2, b2=0.98))
    experiment = tiny.build(config, hooks)
    launch.run(experiment, copy)
    assert [number for number in asked_for if number] == [12, 13, 14, 15, 16, 17]  # 0 has the stand-ins
    changed = "the configuration has changed: steps: 12 -> 18; optimizer.b2: 0.99 -> 0.98\n"
    assert changed in capsys.readouterr().out
    assert int(newest(copy, experiment).step) == 18
    assert [row["step"] for row in rows(copy)] == [4, 8, 12, 16, 18]
    assert rows(copy)[:3] == rows(finished.folder)
    # What was made from step 12 is made again. Both samplers are traced before training, before sampling, and
    # to sample; the evaluation is tried before training.
    assert (hooks.calls["sampler"], hooks.calls["evaluate"]) == (6, 2)
    assert '"step": 18' in workdir.read_samples(copy / "samples.npz")[1]
    assert json.loads((copy / "config.json").read_text())["steps"] == 18


def test_the_modes_in_turn_are_a_whole_run(finished, tmp_path):
    experiment, folder = tiny.build(Config()), tmp_path / "run"
    for mode in ("sample", "evaluate"):
        with pytest.raises(Refusal, match=f"--mode {mode}: no checkpoint in .*; train first"):
            launch.run(experiment, folder, mode=mode)
        assert not folder.exists()

    assert launch.run(experiment, folder, mode="train") == {}
    assert saved_steps(folder) == [6, 12]
    trained = snapshot(folder)
    assert names_in(folder) == TRAINED

    with pytest.raises(Refusal, match="no samples of its newest checkpoint and these data; sample first"):
        launch.run(experiment, folder, mode="evaluate")
    after = snapshot(folder)
    assert {name for name in after if after[name] != trained.get(name)} <= RENEWED

    assert launch.run(experiment, folder, mode="sample") == {}
    assert names_in(folder) == TRAINED | {"samples.npz", "sampling.json"}

    metrics = launch.run(experiment, folder, mode="evaluate")
    assert metrics | {"sampling": None} == finished.metrics | {"sampling": None}
    assert names_in(folder) == DOCUMENTED


# Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "name", "error"),
    [
        (Config(steps=11), "tiny", r"^--steps 11: .* has been trained for 12 steps.*$"),
        (Config(), "other", r"^--workdir .*: holds a run of tiny; name another folder$"),
        (Config(batch=12), "tiny", r"^--batch 12: must be divisible by the 8 devices$"),
    ],
    ids=["fewer steps", "another experiment", "batch"],
)
def test_what_does_not_fit_the_folder_is_refused(copy, config, name, error):
    """In one line, with nothing in the folder changed."""
    before = snapshot(copy)
    with pytest.raises((Refusal, FlagError), match=error):
        launch.run(tiny.build(config, name=name), copy)
    assert snapshot(copy) == before


def test_an_empty_folder_of_checkpoints_is_refused(copy):
    shutil.rmtree(copy / "checkpoints")
    (copy / "checkpoints").mkdir()
    before = snapshot(copy)
    with pytest.raises(Refusal, match=r"--mode sample: no checkpoint in .*; train first"):
        launch.run(tiny.build(Config()), copy, mode="sample")
    assert snapshot(copy) == before


def test_a_full_disk_is_refused_before_training(tmp_path, monkeypatch):
    free = shutil._ntuple_diskusage(total=2e9, used=2e9, free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(Refusal, match="no disk space"):
        launch.run(tiny.build(Config()), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Checkpoints that cannot be used --------------------------------------------------------------


def test_a_checkpoint_of_another_network_is_not_harmed(finished, copy):
    """It is refused in one line that names the checkpoint, the parameter and the flag."""
    before = snapshot(copy)
    # Alphabetically the first parameter that does not fit.
    parameter = r"/in/bias is float32\[8\], here it is float32\[16\]"
    line = rf"\A.*{copy / 'checkpoints' / '12'} .*{parameter}.*width: 8 -> 16.*\Z"
    for mode in ("all", "sample"):
        with pytest.raises(CheckpointError, match=line):
            launch.run(tiny.build(Config(width=16)), copy, mode=mode)
    assert snapshot(copy) == before
    assert launch.run(tiny.build(Config()), copy) == finished.metrics


def test_a_damaged_checkpoint_is_named_and_the_last_goes_on(finished, copy, capsys):
    """Training goes on from the one before it, and ends with the same bits."""
    flip(array_file(copy / "checkpoints" / "12"))
    experiment = tiny.build(Config())
    launch.run(experiment, copy, mode="train")
    named = rf"^checkpoint {copy / 'checkpoints' / '12'} is damaged: .*; moved to .*checkpoints-damaged.12$"
    assert re.search(named, capsys.readouterr().out, re.M)
    assert_identical(newest(copy, experiment), newest(finished.folder, experiment))
    assert (copy / "checkpoints-damaged" / "12").is_dir()


def test_training_never_starts_anew_over_damaged_checkpoints(copy):
    """If all are damaged, one line says so."""
    for step in ("6", "12"):
        flip(array_file(copy / "checkpoints" / step))
    before = snapshot(copy)
    line = rf"\Ano checkpoint in {copy / 'checkpoints'} is good: 12: .*\Z"
    with pytest.raises(CheckpointError, match=line):
        launch.run(tiny.build(Config()), copy)
    assert snapshot(copy) == before


# The command ----------------------------------------------------------------------------------


def command(monkeypatch, build, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["tiny", *arguments])
    launch.main(build, Config())


MENDABLE = (FlagError, Refusal, DataError, CheckpointError, NonFinite)


@pytest.mark.parametrize(
    ("error", "line", "status"),
    [
        *((kind("a line"), "a line", 2) for kind in MENDABLE),
        (PermissionError(13, "Permission denied", "/data/a.npz"), "/data/a.npz: Permission denied", 2),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.\nmore"),
            "the memory does not suffice (RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.): give a "
            "smaller --batch or --sample-batch, more --microbatches, or --remat",
            2,
        ),
        # Before the run listens for signals; 130 is what a shell says of a program stopped by Ctrl-C.
        (KeyboardInterrupt(), "interrupted; what had been saved before is kept", 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_a_user_can_mend_is_one_line_and_a_status(monkeypatch, capsys, error, line, status):
    with pytest.raises(SystemExit) as caught:
        command(monkeypatch, mock.Mock(side_effect=error))
    assert caught.value.code == status
    assert capsys.readouterr().err == f"error: {line}\n"


def test_a_mistake_in_the_code_keeps_its_traceback(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        command(monkeypatch, mock.Mock(side_effect=ZeroDivisionError))


def test_the_command_runs_what_its_flags_say(copy, monkeypatch, capsys):
    command(monkeypatch, tiny.build, "--workdir", str(copy), "--mode", "evaluate")
    output, errors = capsys.readouterr()
    assert f"picture: {copy / 'report' / 'points.png'}" in output
    assert errors == ""


def test_an_interrupted_command_says_where_and_is_no_error(tmp_path, monkeypatch, capsys):
    hooks = tiny.hooks(before={4: kill(signal.SIGINT)})
    command(monkeypatch, lambda config: tiny.build(config, hooks), "--workdir", str(tmp_path / "run"))
    output = capsys.readouterr()
    assert output.err == ""
    assert re.search(r"^stopped at step [56], saved in \S+; run again to go on from there$", output.out, re.M)


def test_a_field_with_the_launchers_own_name_is_refused(tmp_path):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Named(Config):
        experiment: str = "mine"

    with pytest.raises(TypeError, match="rename this field"):
        launch.run(tiny.build(Named()), tmp_path / "run")


def test_a_reader_that_has_had_enough_is_no_error():
    """`--help | head` closes the pipe before everything is printed."""
    program = "from jaxscore.launch import one_line_errors\nwith one_line_errors():\n    print('x' * 10**6)"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.read(1) == "x"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_ctrl_c_before_the_run_listens_ends_the_process():
    """After an exception, threads of XLA's compiler would crash while the interpreter ends."""
    program = """
import os, signal, types
from jaxscore.launch import running
signal.signal(signal.SIGINT, signal.default_int_handler)
with running(types.SimpleNamespace(distributed=False, heartbeat=30, workdir=None)):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        print("not reached")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    expected = (130, "", "error: interrupted; what had been saved before is kept\n")
    assert (done.returncode, done.stdout, done.stderr) == expected


ENVIRONMENTS = {
    "a notebook": {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
    "no such backend": {"MPLBACKEND": "nonsense"},
    "a narrow terminal": {"COLUMNS": "1"},
    "no number": {"COLUMNS": "abc"},
    "no language": {"LANG": "C", "LC_ALL": "C"},
    "empty": {"SLURM_NTASKS": "", "SLURM_JOB_ID": "", "SLURM_PROCID": ""},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
}


SAMPLE = ("a notebook", "latin-1")


@pytest.mark.parametrize("name", [name if name in SAMPLE else rest(name) for name in ENVIRONMENTS])
def test_what_hosts_set_in_the_environment_is_harmless(tmp_path, name):
    """A run starts, says where its pictures are, and ends; whatever the letters of its folder."""
    command = [sys.executable, "-m", "tests.launch.fleet", "--workdir", str(tmp_path / "данные")]
    environment = os.environ | ENVIRONMENTS[name]
    done = subprocess.run([*command, "--steps", "4"], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"picture: " in done.stdout


def test_a_platform_that_is_absent_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "devices", mock.Mock(side_effect=RuntimeError("Unable to\ninitialize")))
    with pytest.raises(SystemExit, match="2"):
        command(monkeypatch, tiny.build)
    said = "error: JAX_PLATFORMS=cuda: not available here (Unable to initialize); set it to cpu\n"
    assert capsys.readouterr().err == said

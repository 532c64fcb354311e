"""One run on any number of devices and processes: the same numbers, and an end that everybody understands."""

import os
import re
import signal
import time
from functools import partial
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from jaxscore import launch
from jaxscore.launch import metrics_log, processes, programs, workdir
from jaxscore.launch.config import Mesh
from jaxscore.launch.flags import FlagError
from jaxscore.launch.workdir import Refusal
from tests.checkpoint.folders import array_file, flip, steps_in
from tests.grids import rest
from tests.launch import fleet, tiny
from tests.launch.fleet import HEARTBEAT
from tests.launch.test_tensorboard import read
from tests.launch.tiny import Config, newest

WIDE = {"width": 512, "steps": 40, "log_every": 1, "save_every": 20}
"""Wide enough for its kernels to be split."""

FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in WIDE.items()]


def curve(folder) -> np.ndarray:
    return np.array([row["loss"] for row in metrics_log.read(folder / "metrics.jsonl")])


def assert_same_run(folder, other) -> None:
    """The same losses and samples, but that sums are in other orders."""
    np.testing.assert_allclose(curve(folder), curve(other), rtol=1e-5)
    found, expected = (workdir.read_samples(each / "samples.npz")[0] for each in (folder, other))
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory):
    """run(devices, fsdp) -> the folder of the same run, on so many of the eight devices."""
    done = {}

    def run(devices, fsdp=1):
        if (devices, fsdp) not in done:
            folder = tmp_path_factory.mktemp(f"on_{devices}_{fsdp}") / "run"
            with pytest.MonkeyPatch.context() as patch:
                some = partial(programs.mesh_of, devices=jax.devices()[:devices])
                patch.setattr(launch.programs, "mesh_of", some)
                launch.run(tiny.build(Config(**WIDE, mesh=Mesh(fsdp=fsdp))), folder)
            done[devices, fsdp] = folder
        return done[devices, fsdp]

    return run


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The folder of the same run, of two processes that split the state, and what they said."""
    folder = tmp_path_factory.mktemp("shared") / "run"
    flags = [*FLAGS, "--mesh.fsdp=4", "--picture-every=20", "--tensorboard"]
    return folder, fleet.run("--workdir", str(folder), *flags, processes=2, devices=2)


# The same numbers -----------------------------------------------------------------------------


OTHERS = [rest(2, 1), rest(4, 1), rest(8, 1), rest(4, 4), rest(8, 8)]


@pytest.mark.parametrize(("devices", "fsdp"), [(8, 2), *OTHERS])
def test_losses_and_samples_do_not_depend_on_devices(laid_out, devices, fsdp):
    assert len(curve(laid_out(1))) == 40
    assert_same_run(laid_out(devices, fsdp), laid_out(1))


def test_losses_and_samples_do_not_depend_on_processes(laid_out, shared):
    folder, ended = shared
    assert [status for status, _, _ in ended] == [0, 0], ended
    assert_same_run(folder, laid_out(1))


def test_one_process_speaks(shared):
    _, (first, second) = shared
    assert "step 40/40" in first[1]
    assert "picture: " in first[1]
    assert "\x1b" not in first[1]  # in a pipe there is no bar
    # Gloo's lines are not written whole.
    assert not [line for line in second[1].splitlines() if "[Gloo]" not in line and "peer ranks" not in line]


def test_pictures_and_histograms_are_of_all_processes(shared):
    folder = shared[0]
    names = sorted(path.name for path in (folder / "report" / "training").iterdir())
    assert names == ["00000020.png", "00000040.png"]
    events = {(step, value.tag): value for step, value in read(folder / "tensorboard")}
    assert events[40, "histograms/in/kernel"].histo.num == 3 * WIDE["width"]
    assert "page: " in shared[1][0][1]


def test_what_processes_have_saved_is_what_one_process_saves(laid_out, shared):
    experiment = tiny.build(Config(**WIDE))
    theirs, ours = newest(shared[0], experiment), newest(laid_out(1), experiment)
    assert int(theirs.step) == int(ours.step) == 40
    # Adam divides by the root of squared gradients: where these are small, sums in other orders show.
    chex.assert_trees_all_close(theirs.params, ours.params, rtol=1e-3, atol=1e-4)


# An end that everybody understands ------------------------------------------------------------


SLOWLY = {"processes": 2, "devices": 2, "env": {"JAXSCORE_TEST_SLOW": "0.05"}}


def test_a_notice_to_one_process_stops_all_after_the_same_step(laid_out, tmp_path):
    """The run goes on from there."""
    folder = tmp_path / "run"
    begun = fleet.start("--workdir", str(folder), *FLAGS, **SLOWLY)
    fleet.wait_for_step(folder, 5)
    notice = time.monotonic()
    os.kill(begun[1].pid, signal.SIGTERM)
    ended = fleet.finish(begun)
    assert time.monotonic() - notice < HEARTBEAT
    assert [status for status, _, _ in ended] == [0, 0], ended
    stopped = metrics_log.read(folder / "metrics.jsonl")[-1]["step"]
    assert 5 <= stopped < 40
    assert f"stopped at step {stopped}, saved in" in ended[0][1]
    # One process with eight devices goes on from there, to the same end.
    launch.run(tiny.build(Config(**WIDE)), folder, mode="train")
    np.testing.assert_allclose(curve(folder), curve(laid_out(1)), rtol=1e-5)


def go_on_in_two_processes(*flags):
    """From the checkpoint before the newest one, which is damaged by hand."""
    checkpoints = Path(flags[1]) / "checkpoints"
    damaged = checkpoints / str(max(steps_in(checkpoints)))
    flip(array_file(damaged))
    ended = fleet.run(*flags, processes=2, devices=2)
    assert [status for status, _, _ in ended] == [0, 0], ended
    assert [f"checkpoint {damaged} is damaged" in output for _, output, _ in ended] == [True, False]


def go_on_in_one_with_eight_devices(_, folder, *flags):
    launch.run(tiny.build(Config(**WIDE | {"save_every": 4})), folder, mode="train")


@pytest.mark.parametrize(
    ("victim", "go_on"), [(0, go_on_in_two_processes), (1, go_on_in_one_with_eight_devices)]
)
def test_a_process_that_dies_ends_the_others_with_a_line(laid_out, tmp_path, victim, go_on):
    """The run goes on from the last checkpoint that is good."""
    folder = tmp_path / "run"
    flags = ["--workdir", str(folder), *FLAGS, "--save-every=4", "--mesh.fsdp=4"]
    begun = fleet.start(*flags, **SLOWLY)
    fleet.wait_for_step(folder, 13)  # the saves of steps 4 and 8 are complete when that of 12 has begun
    fleet.kill(begun[victim])
    died = time.monotonic()
    ((status, _, errors),) = fleet.finish([begun[1 - victim]], seconds=4 * HEARTBEAT)
    assert time.monotonic() - died < 2 * HEARTBEAT + 5
    assert status == processes.PEER_LOST
    line = r"error: this process has ended \(SIGABRT\): another process of the run has died.* on all hosts"
    assert re.match(line, errors.strip().splitlines()[-1])
    go_on(*flags)
    np.testing.assert_allclose(curve(folder)[-20:], curve(laid_out(1))[-20:], rtol=1e-5)


def test_what_one_process_refuses_all_refuse(tmp_path):
    (tmp_path / "file").write_text("")
    ended = fleet.run("--workdir", str(tmp_path / "file"), processes=2)
    for status, _, errors in ended:
        assert status == 2
        lines = [line for line in errors.splitlines() if "Gloo" not in line]
        assert lines == [f"error: --workdir {tmp_path / 'file'}: is a file, not a folder; name a folder"]


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES=two must be a whole number"),
        ({"JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID=2 must be below JAX_NUM_PROCESSES=2"),
    ],
)
def test_variables_that_cannot_be_are_refused(monkeypatch, variables, named):
    right = {"JAX_COORDINATOR_ADDRESS": "localhost:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}
    for name, value in (right | variables).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(FlagError, match=named), processes.joined(False, 30):
        raise AssertionError("joined")


@pytest.mark.slow
def test_a_process_that_waits_says_for_whom(tmp_path):
    """A SLURM step of two tasks in which one was started by hand."""
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}
    step |= {"SLURM_LOCALID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_NUM_NODES": "1"}
    (process,) = fleet.start("--workdir", str(tmp_path), env=step)
    try:
        line = process.stdout.readline()
    finally:
        fleet.kill(process)
    assert line.startswith("waiting for the other processes of the run (SLURM_NTASKS=2), for up to 300 s")
    assert line.endswith("unset SLURM_NTASKS\n")


def test_one_process_alone_joins_nobody(monkeypatch):
    """It does what the first of several does."""
    for name in ("JAX_COORDINATOR_ADDRESS", "SLURM_STEP_NODELIST", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with processes.joined(False, 30):
        assert processes.on_first(lambda: [1, "two"]) == [1, "two"]
        with pytest.raises(Refusal, match="no"):
            processes.on_first(lambda: (_ for _ in ()).throw(Refusal("no")))

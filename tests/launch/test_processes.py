"""One run on any number of devices and processes: the same numbers, and an end that everybody understands."""

import os
import signal
import time
from functools import partial

import jax
import numpy as np
import pytest

from jaxscore import launch
from jaxscore.launch import metrics_log, processes, programs, workdir
from jaxscore.launch.config import Mesh
from jaxscore.launch.flags import FlagError
from jaxscore.launch.workdir import Refusal
from tests.grids import rest
from tests.launch import fleet, tiny
from tests.launch.fleet import HEARTBEAT
from tests.launch.tiny import Config, newest

WIDE = {"width": 512, "steps": 100, "log_every": 1, "save_every": 50}
"""Wide enough for its kernels to be split."""

FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in WIDE.items()]


def curve(folder) -> np.ndarray:
    return np.array([row["loss"] for row in metrics_log.read(folder / "metrics.jsonl")])


def samples(folder) -> dict[str, np.ndarray]:
    return workdir.read_samples(folder / "samples.npz")[0]


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
    """The folder of the same run, of two processes with two devices each, and what they said."""
    folder = tmp_path_factory.mktemp("shared") / "run"
    return folder, fleet.run("--workdir", str(folder), *FLAGS, processes=2, devices=2)


# The same numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize(("devices", "fsdp"), [(8, 1), (8, 8), (8, 2), rest(2, 1), rest(4, 1), rest(4, 4)])
def test_losses_and_samples_do_not_depend_on_devices(laid_out, devices, fsdp):
    one, other = laid_out(1), laid_out(devices, fsdp)
    assert len(curve(one)) == 100
    # Sums are in other orders.
    np.testing.assert_allclose(curve(other), curve(one), rtol=1e-5)
    for name, found in samples(other).items():
        np.testing.assert_allclose(found, samples(one)[name], rtol=1e-5, atol=1e-5)


def test_losses_and_samples_do_not_depend_on_processes(laid_out, shared):
    folder, ended = shared
    assert [status for status, _, _ in ended] == [0, 0], ended
    np.testing.assert_allclose(curve(folder), curve(laid_out(1)), rtol=1e-5)
    for name, found in samples(folder).items():
        np.testing.assert_allclose(found, samples(laid_out(1))[name], rtol=1e-5, atol=1e-5)


def test_one_process_speaks(shared):
    _, (first, second) = shared
    assert "step 100/100" in first[1]
    assert "picture: " in first[1]
    assert not [line for line in second[1].splitlines() if "[Gloo]" not in line]


@pytest.mark.parametrize(("devices", "fsdp"), [(1, 1), (8, 8)])
def test_what_processes_have_saved_goes_on_anywhere(laid_out, shared, tmp_path, devices, fsdp):
    experiment = tiny.build(Config(**WIDE, mesh=Mesh(fsdp=fsdp)))
    theirs, ours = newest(shared[0], experiment), newest(laid_out(devices, fsdp), experiment)
    assert int(theirs.step) == int(ours.step) == 100
    kernels = lambda state: jax.tree.leaves(state.params)
    for a, b in zip(kernels(theirs), kernels(ours), strict=True):
        # Adam divides by the root of squared gradients: where these are small, sums in other orders show.
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


# An end that everybody understands ------------------------------------------------------------


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def test_a_notice_to_one_process_stops_all_after_the_same_step(laid_out, tmp_path):
    """The run goes on from there."""
    folder = tmp_path / "run"
    begun = fleet.start(
        "--workdir", str(folder), *FLAGS, processes=2, devices=2, env={"JAXSCORE_TEST_SLOW": "0.05"}
    )
    fleet.wait_for_step(folder, 5)
    notice = time.monotonic()
    os.kill(begun[1].pid, signal.SIGTERM)
    ended = fleet.finish(begun)
    assert time.monotonic() - notice < HEARTBEAT
    assert [status for status, _, _ in ended] == [0, 0], ended
    stopped = metrics_log.read(folder / "metrics.jsonl")[-1]["step"]
    assert 5 <= stopped < 100
    assert f"stopped at step {stopped}, saved in" in ended[0][1]
    # One process with eight devices goes on from there, to the same end.
    launch.run(tiny.build(Config(**WIDE)), folder, mode="train")
    np.testing.assert_allclose(curve(folder), curve(laid_out(1)), rtol=1e-5)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_ends_the_others_with_a_line(laid_out, tmp_path, victim):
    """The run goes on from the last checkpoint."""
    folder = tmp_path / "run"
    flags = ["--workdir", str(folder), *FLAGS, "--save-every", "4"]
    begun = fleet.start(*flags, processes=2, devices=2, env={"JAXSCORE_TEST_SLOW": "0.05"})
    fleet.wait_for_step(folder, 9)
    fleet.kill(begun[victim])
    died = time.monotonic()
    status, _, errors = fleet.finish([begun[1 - victim]], seconds=4 * HEARTBEAT)[0]
    assert time.monotonic() - died < 2 * HEARTBEAT + 5
    assert status == processes.PEER_LOST
    assert last_line(errors).startswith(
        "error: this process has ended (SIGABRT): another process of the run has died"
    )
    assert "run the same command again on all hosts" in last_line(errors)
    if victim == 0:
        ended = fleet.run(*flags, processes=2, devices=2)
        assert [status for status, _, _ in ended] == [0, 0], ended
    else:  # or one process with eight devices
        launch.run(tiny.build(Config(**WIDE | {"save_every": 4})), folder, mode="train")
    np.testing.assert_allclose(curve(folder)[-50:], curve(laid_out(1))[-50:], rtol=1e-5)


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


def test_one_process_alone_joins_nobody(monkeypatch):
    """It does what the first of several does."""
    for name in ("JAX_COORDINATOR_ADDRESS", "SLURM_STEP_NODELIST", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with processes.joined(False, 30):
        assert processes.on_first(lambda: [1, "two"]) == [1, "two"]
        with pytest.raises(Refusal, match="no"):
            processes.on_first(lambda: (_ for _ in ()).throw(Refusal("no")))

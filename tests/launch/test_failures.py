"""What goes wrong where long runs are: processes killed, disks full or read-only, clocks that jump."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxscore import launch
from jaxscore.checkpoint import CheckpointError
from jaxscore.launch import metrics_log
from jaxscore.launch.workdir import Refusal
from tests.grids import rest
from tests.launch import fleet, tiny
from tests.launch.tiny import Config, assert_identical, newest

launch_run = sys.modules["jaxscore.launch.run"]  # `launch.run` is the function

CONFIG = {"steps": 16, "save_every": 2, "log_every": 1, "width": 64}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The newest state of a run from beginning to end."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    experiment = tiny.build(Config(**CONFIG))
    launch.run(experiment, folder, mode="train")
    return newest(folder, experiment)


def ends_as(undisturbed, folder) -> None:
    """The run in the folder goes on to the end, and its state is bit by bit that of the undisturbed one."""
    experiment = tiny.build(Config(**CONFIG))
    launch.run(experiment, folder, mode="train")
    assert_identical(newest(folder, experiment), undisturbed)
    assert [row["step"] for row in metrics_log.read(folder / "metrics.jsonl")] == list(range(1, 17))


# Killed ---------------------------------------------------------------------------------------


def work(folder):
    """The run, in a process that is going to be killed; each batch takes a little."""
    pause = dict.fromkeys(range(CONFIG["steps"]), lambda: time.sleep(0.02))
    launch.run(tiny.build(Config(**CONFIG), tiny.hooks(before=pause)), folder, mode="train")


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    """Processes begun in a moment: copies of one that has already imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.launch.test_failures"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(fleet.ROOT / ".cache" / "jax"))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        yield context


def files(folder) -> set[str]:
    return {path.name for path in (folder / "checkpoints").glob("*")}


@pytest.mark.slow
@pytest.mark.parametrize("kills", [4, rest(20)])
def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(undisturbed, children, tmp_path, kills):
    random, folder, inside_a_save = np.random.default_rng(0), tmp_path / "0", 0
    for number in range(kills):
        child = children.Process(target=work, args=(folder,))
        child.start()
        begun = fleet.newest_step(folder)
        if number % 2:  # as soon as a save is seen to be under way
            known, deadline = files(folder), time.monotonic() + 60
            while not any("tmp" in name for name in files(folder) - known) and child.is_alive():
                assert time.monotonic() < deadline
        else:
            fleet.wait_for_step(folder, min(begun + int(random.integers(1, 4)), 16))
            time.sleep(random.uniform(0, 0.04))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL or begun >= 12, child.exitcode
        inside_a_save += any("tmp" in name for name in files(folder))
        after = shutil.copytree(folder, tmp_path / f"{number}-resumed")
        ends_as(undisturbed, after)
        if fleet.newest_step(folder) >= 12:  # nearly done: begin another one
            folder = tmp_path / str(number + 1)
    assert inside_a_save >= max(1, kills // 6)


# The disk -------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A file system of 3 MB of its own, which is not refused at the start; mount(flags) changes it."""
    monkeypatch.setattr(launch_run.programs, "bytes_needed", lambda *_: 0)
    place = tmp_path / "disk"
    place.mkdir()
    mount = lambda *flags: subprocess.run(
        ["mount", "-t", "tmpfs", *flags, "tmpfs", str(place)], capture_output=True, check=False
    )
    if os.geteuid() != 0 or mount("-o", "size=3m").returncode != 0:
        pytest.skip("may not mount a file system here")

    def remount(flags):
        deadline = time.monotonic() + 30  # while a file is being written there it is busy
        while subprocess.run(["mount", "-o", flags, str(place)], capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, f"cannot mount with {flags}"
            time.sleep(0.01)

    yield place, remount
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_while_it_saves_is_one_line(undisturbed, small_disk):
    """Once there is room the run goes on."""
    place, _ = small_disk

    def fill():
        with (place / "other").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    folder = place / "run"
    line = f"^cannot save in {folder / 'checkpoints'}: no disk space; make room and run again$"
    with pytest.raises(CheckpointError, match=line):
        launch.run(tiny.build(Config(**CONFIG), tiny.hooks(before={9: fill})), folder, mode="train")
    (place / "other").unlink()
    ends_as(undisturbed, folder)


def test_a_folder_that_becomes_read_only_is_one_line(undisturbed, small_disk):
    """Once it can be written the run goes on."""
    place, remount = small_disk
    folder, hooks = place / "run", tiny.hooks(before={9: lambda: remount("remount,ro")})
    with pytest.raises((CheckpointError, OSError), match="Read-only file system") as caught:
        launch.run(tiny.build(Config(**CONFIG), hooks), folder, mode="train")
    assert str(folder) in str(caught.value)
    remount("remount,rw")
    assert files(folder)
    ends_as(undisturbed, folder)


def test_a_folder_that_is_read_only_from_the_start_is_refused(small_disk):
    place, remount = small_disk
    remount("remount,ro")
    with pytest.raises(Refusal, match="cannot be written"):
        launch.run(tiny.build(Config(**CONFIG)), place / "run", mode="train")


# Two runs, and the clock ----------------------------------------------------------------------


def test_a_second_run_in_the_same_folder_refuses(undisturbed, tmp_path):
    """The first one goes on to its end."""
    folder, refused = tmp_path / "run", []
    second = lambda: refused.extend(fleet.run("--workdir", str(folder), "--steps=16", "--width=64"))
    launch.run(tiny.build(Config(**CONFIG), tiny.hooks(before={5: second})), folder, mode="train")
    text = f"error: --workdir {folder}: another run is at work there; wait for it to end, or name another\n"
    assert refused == [(2, "", text)]
    ends_as(undisturbed, folder)


def test_the_clock_may_jump(undisturbed, tmp_path, monkeypatch):
    real, offset = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])
    # A day forward and a year back, in turn, while saves are under way too.
    jump = lambda step: lambda: offset.append(offset.pop() + (86_400.0 if step % 2 else -3.15e7))
    hooks = tiny.hooks(before={step: jump(step) for step in range(16)})
    experiment = tiny.build(Config(**CONFIG), hooks)
    launch.run(experiment, tmp_path / "run", mode="train")
    assert_identical(newest(tmp_path / "run", experiment), undisturbed)
    rows = metrics_log.read(tmp_path / "run" / "metrics.jsonl")
    assert all(0 < row["steps_per_second"] < 1e6 for row in rows)

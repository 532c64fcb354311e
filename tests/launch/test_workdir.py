import dataclasses
import errno
import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxscore.launch import workdir
from jaxscore.launch.config import Config, Optimizer
from jaxscore.launch.workdir import Refusal
from tests.launch.tiny import snapshot

ROOT = Path(__file__).parents[2]


def describe(name="digits", **changes):
    return workdir.describe(name, Config(workdir=Path("unused"), **changes))


def refused(folder: Path, description=None, **arguments) -> str:
    with pytest.raises(Refusal) as caught:
        workdir.claim(folder, description or describe(), **arguments)
    text = str(caught.value)
    assert "\n" not in text
    assert str(folder) in text
    return text


@pytest.fixture
def run(tmp_path):
    """The folder of an earlier run of digits."""
    folder = tmp_path / "run"
    assert workdir.claim(folder, describe()) == []
    workdir.write_json(folder / "config.json", describe())
    return folder


# Describe -------------------------------------------------------------------------------------


def test_the_description_has_the_name_and_every_field():
    description = describe(steps=7, mode="sample")
    assert description["experiment"] == "digits"
    assert description["steps"] == 7
    assert description["optimizer"] == dataclasses.asdict(Optimizer())
    fields = {field.name for field in dataclasses.fields(Config)}
    assert set(description) == fields - {"workdir", "mode"} | {"experiment"}
    assert json.loads(json.dumps(description)) == description


WITHOUT_EFFECT = {"mode": "sample", "sample_batch": 7, "log_every": 7, "save_every": 7}


# Claim ----------------------------------------------------------------------------------------


def test_a_new_folder_is_made_with_its_parents_and_left_empty(tmp_path):
    folder = tmp_path / "a" / "b"
    assert workdir.claim(folder, describe()) == []
    assert list(folder.iterdir()) == []


def test_an_empty_folder_is_taken(tmp_path):
    assert workdir.claim(tmp_path, describe()) == []
    assert list(tmp_path.iterdir()) == []


def test_the_same_run_is_taken_over_as_it_is(run):
    before = snapshot(run)
    assert workdir.claim(run, describe()) == []
    assert snapshot(run) == before


def test_changed_fields_are_listed_with_their_path(run):
    changed = workdir.claim(run, describe(steps=2000, optimizer=Optimizer(learning_rate=0.5)))
    assert changed == ["steps: 1000 -> 2000", "optimizer.learning_rate: 0.001 -> 0.5"]


def test_fields_that_change_no_result_are_no_change(run):
    assert workdir.claim(run, describe(**WITHOUT_EFFECT)) == []


def test_added_and_removed_fields_are_changes(run):
    now = describe() | {"width": 3}
    del now["seed"]
    assert sorted(workdir.claim(run, now)) == ["seed: 0 -> None", "width: None -> 3"]


def test_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    assert "is a file" in refused(path)
    assert path.read_text() == "mine"


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "cannot be written" in refused(tmp_path / "file" / "run")
    assert snapshot(tmp_path) == {"file": b"mine"}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a /proc, where nobody can make a folder")
def test_a_folder_that_cannot_be_made_is_refused():
    assert "cannot be written" in refused(Path("/proc/jaxscore-run"))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a /proc, where nobody can make a folder")
def test_a_folder_that_cannot_be_made_is_not_called_a_full_disk():
    assert "cannot be written" in refused(Path("/proc/jaxscore-run"), needed=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    try:
        assert "cannot be written" in refused(tmp_path)
        assert "cannot be written" in refused(tmp_path / "run")
    finally:
        tmp_path.chmod(0o755)


def test_a_folder_in_which_no_file_can_be_made_is_refused(tmp_path, monkeypatch):
    def touch(self, *arguments, **more):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", touch)
    assert "cannot be written (Permission denied)" in refused(tmp_path)


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    assert "not empty" in refused(tmp_path)
    assert snapshot(tmp_path) == {"thesis.tex": b"mine"}


def test_the_folder_of_another_experiment_is_refused(run):
    before = snapshot(run)
    assert "a run of digits" in refused(run, describe("toy2d"))
    assert snapshot(run) == before


def test_a_damaged_configuration_is_refused(run):
    (run / "config.json").write_text('{"experiment": "dig')
    before = snapshot(run)
    assert "config.json is damaged" in refused(run)
    assert snapshot(run) == before


@pytest.mark.parametrize("below", ["", "a/b/c"])
def test_a_full_disk_is_refused_before_anything_is_made(tmp_path, monkeypatch, below):
    asked = []

    def disk_usage(path):
        asked.append(Path(path))
        return shutil._ntuple_diskusage(total=2e9, used=1.99e9, free=10_000_000)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    folder = tmp_path / below
    text = refused(folder, needed=10_000_001)
    assert "no disk space" in text
    assert "10 MB" in text
    assert asked == [tmp_path]  # the folder itself may not be there yet
    assert list(tmp_path.iterdir()) == []
    assert workdir.claim(folder, describe(), needed=10_000_000) == []


# Lock -----------------------------------------------------------------------------------------


def test_a_locked_folder_is_refused_and_holds_no_extra_file(tmp_path):
    refusal = f"--workdir {tmp_path}: another run is at work there; wait for it to end, or name another"
    with workdir.locked(tmp_path):
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(Refusal) as caught, workdir.locked(tmp_path):
            pass
    assert str(caught.value) == refusal
    with workdir.locked(tmp_path):
        pass


HOLD = """
import sys, time
from pathlib import Path
from jaxscore.launch.workdir import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_released(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, cwd=ROOT) as holder:
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(Refusal, match="another run is at work"), workdir.locked(tmp_path):
            pass
        holder.kill()
    with workdir.locked(tmp_path):
        pass


def test_where_folders_cannot_be_locked_a_file_in_them_is(tmp_path, monkeypatch):
    real = fcntl.flock

    def on_nfs(descriptor, operation):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", on_nfs)
    refused_twice = pytest.raises(Refusal, match="another run is at work")
    with workdir.locked(tmp_path), refused_twice, workdir.locked(tmp_path):
        pass
    assert workdir.claim(tmp_path, describe()) == []  # the lock's file is no other's thing


# Files ----------------------------------------------------------------------------------------


def test_a_stamp_tells_steps_and_configurations_apart():
    stamp = workdir.stamp(describe(), 10)
    assert stamp == workdir.stamp(dict(reversed(describe().items())), 10)
    assert stamp == workdir.stamp(describe(**WITHOUT_EFFECT), 10)
    assert stamp != workdir.stamp(describe(), 11)
    assert stamp != workdir.stamp(describe("toy2d"), 10)
    assert stamp != workdir.stamp(describe(seed=1), 10)
    assert stamp != workdir.stamp(describe(optimizer=Optimizer(b2=0.5)), 10)


def test_json_comes_back(tmp_path):
    value = {"a": [1, 2.5, None], "b": {"c": "σ"}}
    workdir.write_json(tmp_path / "x.json", value)
    assert workdir.read_json(tmp_path / "x.json") == value
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert workdir.read_json(tmp_path / "absent.json") is None


def cut_off(self, text, *more, **arguments):
    """Path.write_text on a disk that is full after 3 bytes."""
    with self.open("w") as file:
        file.write(text[:3])
    raise OSError(28, "No space left on device", str(self))


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    workdir.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        workdir.write_json(path, {"a": object()})
    assert workdir.read_json(path) == {"a": 1}
    monkeypatch.setattr(Path, "write_text", cut_off)
    with pytest.raises(OSError, match="No space"):
        workdir.write_json(path, {"a": 2})
    assert workdir.read_json(path) == {"a": 1}


def test_damaged_json_is_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("[1, 2")
    with pytest.raises(Refusal, match=r"x\.json is damaged") as caught:
        workdir.read_json(path)
    assert "\n" not in str(caught.value)


def samples(n=100):
    return {"a": np.arange(3.0 * n).reshape(n, 3), "b": np.ones(n, np.float32)}


def test_samples_come_back_with_their_stamp(tmp_path):
    path = tmp_path / "samples.npz"
    workdir.write_samples(path, samples(), "the stamp")
    found, stamp = workdir.read_samples(path)
    assert stamp == "the stamp"
    assert set(found) == {"a", "b"}
    for name, array in samples().items():
        np.testing.assert_array_equal(found[name], array, strict=True)
    assert [path.name for path in tmp_path.iterdir()] == ["samples.npz"]


def test_samples_that_cannot_be_written_leave_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "samples.npz"
    workdir.write_samples(path, samples(), "old")

    def savez(file, **arrays):
        Path(file).write_bytes(b"PK\x03\x04")
        raise OSError(28, "No space left on device", str(file))

    monkeypatch.setattr(np, "savez", savez)
    with pytest.raises(OSError, match="No space"):
        workdir.write_samples(path, samples(), "new")
    assert workdir.read_samples(path)[1] == "old"


def test_absent_samples_are_none(tmp_path):
    assert workdir.read_samples(tmp_path / "samples.npz") == ({}, "")


@pytest.mark.parametrize(
    "damage",
    [
        "empty",
        "text",
        "truncated",
        "flipped",
        "without a stamp",
        "pickled",
    ],
)
def test_damaged_samples_are_none(tmp_path, damage):
    path = tmp_path / "samples.npz"
    workdir.write_samples(path, samples(), "the stamp")
    whole = path.read_bytes()
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("not an archive")
    elif damage == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "flipped":
        middle = whole.index(np.float64(150.0).tobytes()) + 7  # within the array `a`
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    elif damage == "without a stamp":
        np.savez(path, **samples())
    else:
        np.savez(path, a=np.array([{}]), stamp="the stamp")
    assert workdir.read_samples(path) == ({}, "")

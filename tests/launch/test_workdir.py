import dataclasses
import errno
import fcntl
import json
import os
import re
import shutil
import stat
from pathlib import Path
from unittest import mock

import chex
import numpy as np
import pytest

from jaxscore.launch import workdir
from jaxscore.launch.config import Config, Optimizer
from jaxscore.launch.flags import FlagError
from jaxscore.launch.workdir import Refusal
from tests.launch.tiny import snapshot


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
    fields = dataclasses.asdict(Config(workdir=Path("unused"), steps=7))
    expected = {name: value for name, value in fields.items() if name not in ("workdir", "mode")}
    assert description == expected | {"experiment": "digits"}
    assert json.loads(json.dumps(description)) == description


# Claim ----------------------------------------------------------------------------------------

WITHOUT_EFFECT = {"mode": "sample", "sample_batch": 7, "log_every": 7, "save_every": 7}


@pytest.mark.parametrize("below", ["", "a/b"])
def test_a_new_or_empty_folder_is_taken_and_left_empty(tmp_path, below):
    assert workdir.claim(tmp_path / below, describe()) == []
    assert list((tmp_path / below).iterdir()) == []


@pytest.mark.parametrize(
    ("now", "changed"),
    [
        (describe(), []),
        (describe(**WITHOUT_EFFECT), []),
        (
            describe(steps=2000, optimizer=Optimizer(learning_rate=0.5)),
            ["steps: 1000 -> 2000", "optimizer.learning_rate: 0.001 -> 0.5"],
        ),
        (describe() | {"width": 3}, ["width: None -> 3"]),
        ({name: value for name, value in describe().items() if name != "seed"}, ["seed: 0 -> None"]),
    ],
    ids=["the same", "without effect", "changed", "added", "removed"],
)
def test_an_earlier_run_is_taken_over_and_its_changes_listed(run, now, changed):
    before = snapshot(run)
    assert workdir.claim(run, now) == changed
    assert snapshot(run) == before


@pytest.mark.parametrize(
    ("name", "text", "below", "said"),
    [
        ("file", "mine", "file", "is a file"),
        ("file", "mine", "file/run", "cannot be written"),
        ("thesis.tex", "mine", "", "not empty"),
        ("config.json", '{"experiment": "toy2d"}', "", "a run of toy2d"),
        ("config.json", '{"experiment": "dig', "", "config.json is damaged"),
        ("config.json", "[]", "", "config.json is no configuration of a run"),
    ],
)
def test_what_is_no_folder_of_this_run_is_refused(tmp_path, name, text, below, said):
    """It is left as it was."""
    (tmp_path / name).write_text(text)
    assert said in refused(tmp_path / below)
    assert snapshot(tmp_path) == {name: text.encode()}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a /proc, where nobody can make a folder")
@pytest.mark.parametrize("needed", [0, 1])
def test_a_folder_that_cannot_be_made_is_refused(needed):
    """It is not called a full disk, whose size is 0 too."""
    assert "cannot be written" in refused(Path("/proc/jaxscore-run"), needed=needed)


def test_a_folder_in_which_no_file_can_be_made_is_refused(tmp_path):
    with mock.patch.object(Path, "touch", side_effect=PermissionError(13, "Permission denied")):
        assert "cannot be written (Permission denied)" in refused(tmp_path)


@pytest.mark.parametrize("below", ["", "a/b/c"])
def test_a_full_disk_is_refused_before_anything_is_made(tmp_path, monkeypatch, below):
    asked = []

    def disk_usage(path):
        asked.append(Path(path))
        return shutil._ntuple_diskusage(total=2e9, used=1.99e9, free=10_000_000)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    folder = tmp_path / below
    assert re.search("no disk space.* 10 MB", refused(folder, needed=10_000_001))
    assert asked == [tmp_path]  # the folder itself may not be there yet
    assert list(tmp_path.iterdir()) == []
    assert workdir.claim(folder, describe(), needed=10_000_000) == []


# Lock -----------------------------------------------------------------------------------------


def test_a_locked_folder_is_refused_and_holds_no_extra_file(tmp_path):
    refusal = f"--workdir {tmp_path}: another run is at work there; wait for it to end, or name another"
    refused = pytest.raises(Refusal, match=f"^{re.escape(refusal)}$")
    with workdir.locked(tmp_path):
        assert list(tmp_path.iterdir()) == []
        with refused, workdir.locked(tmp_path):
            pass
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
    others = (describe("toy2d"), describe(seed=1), describe(optimizer=Optimizer(b2=0.5)))
    assert stamp not in [workdir.stamp(describe(), 11), *(workdir.stamp(other, 10) for other in others)]


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


def samples(n=100):
    return {"a": np.arange(3.0 * n).reshape(n, 3), "b": np.ones(n, np.float32)}


def test_samples_come_back_with_their_stamp(tmp_path):
    path = tmp_path / "samples.npz"
    workdir.write_samples(path, samples(), "the stamp")
    found, stamp = workdir.read_samples(path)
    assert stamp == "the stamp"
    chex.assert_trees_all_equal(found, samples(), strict=True)
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


def flip(path):
    content = bytearray(path.read_bytes())
    content[content.index(np.float64(150.0).tobytes()) + 7] ^= 1  # within the array `a`
    path.write_bytes(content)


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not an archive"),
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "flipped": flip,
    "without a stamp": lambda path: np.savez(path, **samples()),
    "pickled": lambda path: np.savez(path, a=np.array([{}]), stamp="the stamp"),
    "absent": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_samples_are_none(tmp_path, damage):
    path = tmp_path / "samples.npz"
    workdir.write_samples(path, samples(), "the stamp")
    damage(path)
    assert workdir.read_samples(path) == ({}, "")


def test_after_an_error_the_folder_is_described_as_before(tmp_path):
    """The results in it are not of the configuration that failed."""
    for folder, before in (
        (tmp_path / "new", None),
        (tmp_path / "old", {"experiment": "theorems", "seed": 1}),
    ):
        if before is not None:
            with workdir.owned(folder, before):
                (folder / "theorems.json").write_text("[]")
        kept = snapshot(tmp_path)
        with pytest.raises(FlagError), workdir.owned(folder, {"experiment": "theorems", "seed": 2}):
            raise FlagError("--seed 2: no")
        assert snapshot(tmp_path) == kept


def test_a_path_that_the_locale_cannot_read_is_refused():
    """Python keeps its bytes as surrogates, which no file format takes."""
    path = Path(b"runs/\xd0\xbf".decode("ascii", "surrogateescape"))
    with pytest.raises(Refusal, match="this locale has no such letters; set PYTHONUTF8=1") as caught:
        workdir.claim(path, {"experiment": "tiny"})
    str(caught.value).encode()


def test_names_that_are_no_text_can_be_written(tmp_path):
    workdir.write_text(tmp_path / "a.html", "a\udcff▲")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == "a\\udcff▲"
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]


def test_what_cannot_be_stored_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "a.html").write_text("old")
    monkeypatch.setattr(workdir.os, "replace", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        workdir.write_text(tmp_path / "a.html", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.html", "old")]

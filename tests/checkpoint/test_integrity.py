import json
import os
import shutil
import zlib
from pathlib import Path

import pytest

from jaxscore.checkpoint import integrity
from tests.checkpoint.folders import flip, names_in

WEIGHTS = bytes(range(256)) * 20


@pytest.fixture
def directory(folder):
    """Step 7, committed, with a file in a folder and the two that the commit writes."""
    (folder / "7" / "state" / "d").mkdir(parents=True)
    (folder / "7" / "state" / "d" / "weights").write_bytes(WEIGHTS)
    (folder / "7" / "state" / "nothing").write_bytes(b"")
    integrity.write_sums(folder, 7, folder / "7", metric=0.25)
    for name in integrity.COMMITTED:
        (folder / "7" / name).write_text(f"{{{name}}}")
    return folder


@pytest.fixture
def completed(directory):
    integrity.complete(directory, 7)
    return directory


def test_the_sidecar_has_size_and_crc32_of_every_file(completed):
    sums = lambda content: [len(content), zlib.crc32(content)]
    files = {"state/d/weights": sums(WEIGHTS), "state/nothing": [0, 0]}
    files |= {name: sums(f"{{{name}}}".encode()) for name in integrity.COMMITTED}
    assert json.loads((completed / "7.sums.json").read_text()) == {"metric": 0.25, "files": files}


def test_files_are_read_part_by_part(directory):
    large = os.urandom(2_500_000)
    (directory / "7" / "large").write_bytes(large)
    assert integrity._sum(directory / "7" / "large") == [len(large), zlib.crc32(large)]


def test_good_files_have_no_flaw(directory):
    """This holds before the sidecar is complete, and after."""
    assert integrity.flaw(directory, 7) is None
    integrity.complete(directory, 7)
    assert integrity.flaw(directory, 7) is None
    before = (directory / "7.sums.json").read_bytes()
    integrity.complete(directory, 7)
    assert (directory / "7.sums.json").read_bytes() == before


def resize(size):
    return lambda path: os.truncate(path, size)


def pipe(path):
    path.unlink()
    os.mkfifo(path)


FLAWS = {
    "a flipped bit": (flip, "state/d/weights", "is not what was written (its checksum differs)"),
    "cut off": (resize(17), "state/d/weights", "has 17 bytes, and was written with 5120"),
    "longer": (resize(1), "state/nothing", "has 1 bytes, and was written with 0"),
    "missing": (Path.unlink, "state/d/weights", "is missing"),
    "left over": (Path.touch, "state/more", "is left over"),
    "a commit file": (flip, "commit_success.txt", "is not what was written (its checksum differs)"),
    "no commit file": (Path.unlink, "commit_success.txt", "is missing"),
    "a pipe": (pipe, "state/nothing", "cannot be read (it is no regular file)"),
}


@pytest.mark.parametrize(("damage", "name", "said"), FLAWS.values(), ids=FLAWS)
def test_a_flaw_of_a_file_is_named(completed, damage, name, said):
    damage(completed / "7" / name)
    assert integrity.flaw(completed, 7).endswith(f"{name} {said}")


WHOLE = {
    "it is a file, not a folder": lambda step: (shutil.rmtree(step), step.write_text("mine")),
    "its folder is empty": lambda step: (shutil.rmtree(step), step.mkdir()),
    "its folder is missing": shutil.rmtree,
    "it has no 7.sums.json, as if its save had not been finished": lambda step: step.with_name(
        "7.sums.json"
    ).unlink(),
}


@pytest.mark.parametrize("said", WHOLE)
def test_a_flaw_of_a_whole_step_is_named(completed, said):
    WHOLE[said](completed / "7")
    assert integrity.flaw(completed, 7) == said


GARBLED = ["", "{", "[]", "7", "null", '{"files": {}}', '{"files": 3, "metric": null}', "[" * 100_000]
GARBLED += ['{"files": {"a": 1}, "metric": null}', '{"files": {"a": [1, "2"]}, "metric": null}']
GARBLED += ['{"files": {"a": null}, "metric": null}', '{"files": {"a": [1, 2]}, "metric": "x"}']


@pytest.mark.parametrize("text", GARBLED, ids=range(len(GARBLED)))
def test_a_damaged_sidecar_is_a_flaw_and_has_no_metric(completed, text):
    (completed / "7.sums.json").write_text(text)
    assert integrity.flaw(completed, 7) == "7.sums.json is damaged"
    assert integrity.metric(completed, 7) is None


def test_the_metric_is_read(directory):
    assert integrity.metric(directory, 7) == 0.25
    assert integrity.metric(directory, 8) is None
    text = (directory / "7.sums.json").read_text()
    (directory / "7.sums.json").write_text(text.replace("0.25", "NaN"))
    assert integrity.metric(directory, 7) is None


# What lies in a directory ---------------------------------------------------------------------


def test_steps_are_folders_files_and_sidecars(directory):
    """Files of unfinished saves are not steps."""
    for name in ("12", "007", "x", "7.5", "9.orbax-checkpoint-tmp", "-3"):
        (directory / name).mkdir()
    for name in ("3", "9.sums.json", "20.sums.json", "8.sums.tmp"):
        (directory / name).touch()
    assert integrity.steps(directory) == [20, 12, 7, 3]
    assert integrity.steps(directory / "nowhere") == []


def test_what_is_unfinished_is_removed_and_nothing_else(directory):
    for name in ("7.orbax-checkpoint-tmp", "9.orbax-checkpoint-tmp"):
        (directory / name / "state").mkdir(parents=True)
    for name in ("9.sums.json", "9.sums.tmp", "20.sums.json", "notes.tmp"):
        (directory / name).touch()
    integrity.remove_unfinished(directory)
    assert names_in(directory) == {"7", "7.sums.json", "20.sums.json", "notes.tmp"}
    integrity.remove_orphans(directory)
    assert names_in(directory) == {"7", "7.sums.json", "notes.tmp"}


def test_a_step_is_set_aside_whole_and_never_onto_another(directory):
    aside = directory.with_name("checkpoints-damaged")
    assert integrity.set_aside(directory, 7) == aside / "7"
    for name in ("7.1", "7.2"):
        (directory / "7").mkdir()
        (directory / "7" / "again").write_text(name)
        (directory / "7.sums.json").write_text(name)
        assert integrity.set_aside(directory, 7) == aside / name
        assert (aside / name / "again").read_text() == (aside / f"{name}.sums.json").read_text() == name
    assert list(directory.iterdir()) == []
    assert (aside / "7" / "state" / "d" / "weights").read_bytes() == WEIGHTS
    assert json.loads((aside / "7.sums.json").read_text())["metric"] == 0.25

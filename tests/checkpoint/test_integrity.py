import json
import os
import zlib

import pytest

from jaxscore.checkpoint import integrity

WEIGHTS = bytes(range(256)) * 20


@pytest.fixture
def directory(tmp_path):
    """Step 7, committed, with a file in a folder and the two that the commit writes."""
    directory = tmp_path / "checkpoints"
    (directory / "7" / "state" / "d").mkdir(parents=True)
    (directory / "7" / "state" / "d" / "weights").write_bytes(WEIGHTS)
    (directory / "7" / "state" / "nothing").write_bytes(b"")
    integrity.write_sums(directory, 7, directory / "7", metric=0.25)
    for name in integrity.COMMITTED:
        (directory / "7" / name).write_text(f"{{{name}}}")
    return directory


@pytest.fixture
def completed(directory):
    integrity.complete(directory, 7)
    return directory


def test_the_sidecar_has_size_and_crc32_of_every_file(completed):
    value = json.loads((completed / "7.sums.json").read_text())
    assert value["metric"] == 0.25
    sums = lambda content: [len(content), zlib.crc32(content)]
    assert value["files"] == {
        "state/d/weights": sums(WEIGHTS),
        "state/nothing": [0, 0],
        **{name: sums(f"{{{name}}}".encode()) for name in integrity.COMMITTED},
    }


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


def flip(path, position=1000):
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1
    path.write_bytes(content)


def replace_by_file(path):
    for file in [file for file in path.rglob("*") if file.is_file()]:
        file.unlink()
    for folder in sorted((folder for folder in path.rglob("*")), reverse=True):
        folder.rmdir()
    path.rmdir()
    path.write_text("mine")


FLAWS = {
    "a flipped bit": (
        lambda step: flip(step / "state" / "d" / "weights"),
        "state/d/weights is not what was written (its checksum differs)",
    ),
    "cut off": (
        lambda step: os.truncate(step / "state" / "d" / "weights", 17),
        "state/d/weights has 17 bytes, and was written with 5120",
    ),
    "longer": (
        lambda step: os.truncate(step / "state" / "nothing", 1),
        "state/nothing has 1 bytes, and was written with 0",
    ),
    "missing": (lambda step: (step / "state" / "d" / "weights").unlink(), "state/d/weights is missing"),
    "left over": (lambda step: (step / "state" / "more").touch(), "state/more is left over"),
    "a commit file": (
        lambda step: flip(step / "commit_success.txt"),
        "commit_success.txt is not what was written (its checksum differs)",
    ),
    "no commit file": (lambda step: (step / "commit_success.txt").unlink(), "commit_success.txt is missing"),
    "a pipe": (
        lambda step: ((step / "state" / "nothing").unlink(), os.mkfifo(step / "state" / "nothing")),
        "/state/nothing cannot be read (it is no regular file)",
    ),
    "a file in place of it all": (replace_by_file, "it is a file, not a folder"),
    "an empty folder": (
        lambda step: (replace_by_file(step), step.unlink(), step.mkdir()),
        "its folder is empty",
    ),
    "no folder": (lambda step: (replace_by_file(step), step.unlink()), "its folder is missing"),
    "no sidecar": (
        lambda step: step.with_name("7.sums.json").unlink(),
        "it has no 7.sums.json, as if its save had not been finished",
    ),
}


@pytest.mark.parametrize("kind", FLAWS)
def test_every_flaw_is_named(completed, kind):
    damage, said = FLAWS[kind]
    damage(completed / "7")
    assert integrity.flaw(completed, 7).endswith(said)


GARBLED = ["", "{", "[]", "7", "null", '{"files": {}}', '{"files": 3, "metric": null}']
GARBLED += ['{"files": {"a": 1}, "metric": null}', '{"files": {"a": [1, "2"]}, "metric": null}']
GARBLED += [
    '{"files": {"a": null}, "metric": null}',
    '{"files": {"a": [1, 2]}, "metric": "x"}',
    "[" * 100_000,
]


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
    (directory / "3").touch()
    for name in ("9.sums.json", "20.sums.json", "8.sums.tmp"):
        (directory / name).touch()
    assert integrity.steps(directory) == [20, 12, 7, 3]
    assert integrity.steps(directory / "nowhere") == []


def test_what_is_unfinished_is_removed_and_nothing_else(directory):
    for name in ("7.orbax-checkpoint-tmp", "9.orbax-checkpoint-tmp"):
        (directory / name / "state").mkdir(parents=True)
    for name in ("9.sums.json", "9.sums.tmp", "20.sums.json", "notes.tmp"):
        (directory / name).touch()
    integrity.remove_unfinished(directory)
    names = {path.name for path in directory.iterdir()}
    assert names == {"7", "7.sums.json", "20.sums.json", "notes.tmp"}
    integrity.remove_orphans(directory)
    assert {path.name for path in directory.iterdir()} == {"7", "7.sums.json", "notes.tmp"}


def test_a_step_is_set_aside_whole_and_never_onto_another(directory):
    aside = directory.with_name("checkpoints-damaged")
    for name in ("7", "7.1", "7.2"):
        if name != "7":
            (directory / "7").mkdir()
            (directory / "7" / "again").write_text(name)
            (directory / "7.sums.json").write_text(name)
        assert integrity.set_aside(directory, 7) == aside / name
    assert list(directory.iterdir()) == []
    assert (aside / "7" / "state" / "d" / "weights").read_bytes() == WEIGHTS
    assert json.loads((aside / "7.sums.json").read_text())["metric"] == 0.25
    for name in ("7.1", "7.2"):
        assert (aside / name / "again").read_text() == (aside / f"{name}.sums.json").read_text() == name

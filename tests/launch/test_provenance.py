"""A run knows how it was started, and whether its data or the version of jaxscore have changed since."""

import dataclasses
import json
import re
import sys
import time
from datetime import datetime
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxscore
from jaxscore import data, launch
from jaxscore.launch import provenance, workdir
from jaxscore.launch.config import Optimizer
from jaxscore.launch.flags import require
from jaxscore.launch.workdir import Refusal
from tests.launch import tiny
from tests.launch.tiny import Config

OTHER = data.Dataset(tiny.DATA.examples + 1, tiny.DATA.labels)


def on_others(hooks=None, **flags):
    return tiny.build(Config(**flags), hooks)._replace(data=OTHER)


def test_what_another_version_made_is_made_again(finished, copy, capsys, monkeypatch):
    hooks, before = tiny.hooks(), json.loads((copy / "config.json").read_text())
    monkeypatch.setattr(jaxscore, "__version__", "99.0")
    launch.run(tiny.build(Config(), hooks), copy)
    said = capsys.readouterr().out
    assert f"has changed: jaxscore_version: {before['jaxscore_version']} -> 99.0\n" in said
    assert "other data" not in said
    assert hooks.calls["sampler"] > 0
    assert hooks.calls["evaluate"] > 0
    assert '"step": 12' in workdir.read_samples(copy / "samples.npz")[1]


def test_a_run_that_was_trained_on_other_data_is_refused(copy):
    """Its samples would be judged by data that it has not seen; nothing is written."""
    before = {path: path.read_bytes() for path in copy.rglob("*.json")}
    with pytest.raises(Refusal, match="its 12 steps were trained on other data; name another --workdir"):
        launch.run(on_others(), copy)
    assert {path: path.read_bytes() for path in copy.rglob("*.json")} == before


def test_training_that_goes_on_with_other_data_says_so(copy, capsys):
    """Every later run says so, too."""
    line = "this run was trained on other data up to step 12; to train on these data alone, name another"
    for mode in ("train", "sample", "evaluate"):
        launch.run(on_others(steps=18), copy, mode=mode)
        assert line in capsys.readouterr().out


def test_a_folder_of_an_earlier_version_goes_on(copy, capsys):
    path = copy / "config.json"
    fields = json.loads(path.read_text())
    assert re.fullmatch("[0-9a-f]{16}", fields.pop("data_fingerprint"))
    assert fields.pop("jaxscore_version") == jaxscore.__version__
    path.write_text(json.dumps(fields))
    assert launch.open_run(copy, tiny.build, Config).step == 12
    launch.run(tiny.build(Config(steps=14)), copy, mode="train")
    assert "has changed: steps: 12 -> 14\n" in capsys.readouterr().out


def test_without_a_data_set_the_first_batch_counts(tmp_path):
    closed = []

    def batches(value, *, batch, seed, start):
        assert (batch, seed, start) == (64, 0, 0)
        try:
            yield {"x": np.full((batch, 2), value)}
        finally:
            closed.append(value)

    of = lambda value: tiny.build(Config())._replace(data=None, batches=lambda **how: batches(value, **how))
    first, again, other = (provenance.fingerprint(of(value)) for value in (1.0, 1.0, 2.0))
    assert first == again != other
    assert closed == [1.0, 1.0, 2.0]


def test_absent_data_keep_the_fingerprint_of_the_folder(finished):
    """A run whose data are absent can be sampled, and its samples are up to date."""
    absent = data.Dataset(tiny.DATA.examples[:0], tiny.DATA.labels[:0])
    expected = provenance.describe(finished.experiment, finished.folder)
    found = provenance.describe(finished.experiment._replace(data=absent), finished.folder)
    assert found == expected


# How it was started -------------------------------------------------------------------------------


def launches(folder):
    return [json.loads(line) for line in (folder / provenance.LAUNCHES).read_text().splitlines()]


def test_every_start_has_a_line(copy):
    launch.run(tiny.build(Config(steps=14)), copy, recipe=Config(seed=3, steps=14))
    first, second = launches(copy)
    assert (first["step"], first["changed"]) == (0, {})
    assert (second["step"], second["changed"]) == (12, {"seed": [3, 0]})
    assert second["devices"] == "8 x cpu"
    assert second["command"].startswith("python ")
    assert (second["processes"], second["jax"]) == (1, jax.__version__)


def test_flags_of_nested_configurations_are_compared():
    config = Config(width=9, optimizer=Optimizer(warm_up=5), workdir=Path("elsewhere"), mode="train")
    assert provenance.changed(config, None) == {"width": [8, 9], "optimizer.warm_up": [2, 5]}
    assert provenance.changed(config, config) == {}


def test_without_defaults_there_is_no_recipe():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Needed(Config):
        needed: int

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Refused(Config):
        def __post_init__(self):
            super().__post_init__()
            require(self.seed, "seed", self.seed, "must be given")

    assert provenance.changed(Needed(needed=1), None) is None
    assert provenance.changed(Refused(seed=1), None) is None


@pytest.mark.parametrize(
    ("zone", "offset"), [("Asia/Kolkata", "+05:30"), ("America/Los_Angeles", "-0"), ("UTC", "+00:00")]
)
def test_times_have_their_offset(tmp_path, monkeypatch, zone, offset):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        provenance.record(tmp_path, {}, Config(), None, 0)
    finally:
        monkeypatch.undo()
        time.tzset()
    (line,) = launches(tmp_path)
    assert offset in line["started"][19:]
    assert abs(datetime.fromisoformat(line["started"]).timestamp() - time.time()) < 60


def test_a_notebook_has_no_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", None)
    provenance.record(tmp_path, {}, Config(), None, 0)
    assert launches(tmp_path)[0]["command"] is None

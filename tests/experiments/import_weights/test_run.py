"""From a published file to a run that samples, evaluates, goes on training and is exported again."""

import json

import jax
import numpy as np
import pytest

from experiments import export_weights
from experiments.import_weights import Config, build
from experiments.import_weights.run import run
from jaxscore import importers, launch
from jaxscore.importers import pickles
from jaxscore.launch.flags import FlagError
from tests.importers.files import PUBLISHED, pickled
from tests.launch.tiny import assert_identical, newest, snapshot

SNAPSHOT = PUBLISHED / "edm_snapshot.pkl"
FAST = {"samples": 8, "levels": 2, "batch": 8, "save_every": 2}


@pytest.mark.slow
def test_an_imported_run_does_what_any_run_does(tmp_path, capsys):
    folder = tmp_path / "run"
    run(Config(checkpoint=SNAPSHOT, workdir=folder, **FAST))
    printed = capsys.readouterr().out
    assert "48,387 parameters of UNet, step 0" in printed
    assert f"python -m experiments.import_weights --workdir {folder} --mode sample" in printed
    stored = json.loads((folder / "config.json").read_text())
    assert stored["experiment"] == "import_weights"
    assert stored["checkpoint"] is None
    _, params = importers.edm.read(SNAPSHOT)
    sampled = Config(workdir=folder, mode="sample", **FAST)
    state = newest(folder, build(sampled))
    assert_identical((state.params, state.ema), 2 * (jax.device_get(params),))
    launch.run(build(sampled), folder, mode="sample")
    assert np.load(folder / "samples.npz")["heun"].shape == (8, 16, 16, 3)

    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(16) % 4)
    trained = Config(workdir=folder, data=f"npz:{tmp_path / 'images.npz'}", steps=2, **FAST)
    found = launch.run(build(trained), folder)
    assert np.isfinite(found["samplers"]["heun"]["frechet"])
    assert launch.open_run(folder, build, Config).step == 2

    pytest.importorskip("safetensors")
    export_weights.export(export_weights.Config(run=folder, folder=tmp_path / "weights"))
    run(Config(checkpoint=tmp_path / "weights", workdir=tmp_path / "again", **FAST))
    again = launch.open_run(tmp_path / "again", build, Config)
    assert_identical(
        jax.device_get(again.params), jax.device_get(launch.open_run(folder, build, Config).params)
    )


BAD = {
    "cut": (lambda path: path.write_bytes(SNAPSHOT.read_bytes()[:9000]), "it is damaged"),
    "page": (lambda path: path.write_text("<html>"), "it is a web page"),
    "optimiser": (
        lambda path: path.write_bytes(pickled({"state": {}, "param_groups": []})),
        "of an optimiser",
    ),
    "foreign": (
        lambda path: path.write_bytes(b"cos\nsystem\n(S'touch harm'\ntR."),
        "asks for os.system, which",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line_and_writes_nothing(tmp_path, name, refused):
    write, said = BAD[name]
    write(tmp_path / "x.pkl")
    line = refused("import_weights", "--checkpoint x.pkl --workdir run")
    assert line.startswith("--checkpoint x.pkl: ")
    assert said in line


def test_a_file_that_does_not_fit_its_settings_is_one_line(tmp_path, monkeypatch):
    content = pickles.read(SNAPSHOT)
    content["ema"].state["_modules"]["model"].state["_init_kwargs"]["num_blocks"] = 2
    monkeypatch.setattr(pickles, "read", lambda path: content)
    before = snapshot(tmp_path)
    with pytest.raises(FlagError, match=r"--checkpoint .*does not fit UNet: \d+ missing") as caught:
        run(Config(checkpoint=SNAPSHOT, workdir=tmp_path / "run"))
    assert "\n" not in str(caught.value)
    assert snapshot(tmp_path) == before


def test_a_folder_with_a_run_is_left_as_it_is(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FlagError, match="holds a run already; name another folder"):
        run(Config(checkpoint=SNAPSHOT, workdir=tmp_path))

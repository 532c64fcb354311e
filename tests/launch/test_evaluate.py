"""Evaluation: metrics, table and pictures of the samples in the folder."""

import json
import re
import shutil

import matplotlib.image
import numpy as np
import pytest

from jaxscore import launch
from jaxscore.launch import Refusal, evaluate, workdir
from tests.launch import tiny


def test_the_metrics_are_those_of_the_samples(finished):
    samples, stamp = workdir.read_samples(finished.folder / "samples.npz")
    found = json.loads((finished.folder / "metrics.json").read_text())
    assert found == finished.metrics
    costs = found.pop("sampling")
    assert found == {"n": 20, "mean": samples["one"].mean(axis=0).tolist(), "stamp": stamp}
    assert set(costs) == {"one", "two"}
    assert all(min(cost["seconds"], cost["compile_seconds"]) > 0 for cost in costs.values())


def test_the_pictures_and_the_table_are_shown(finished):
    picture = finished.folder / "report" / "points.png"
    assert np.ptp(matplotlib.image.imread(picture)[..., :3]) > 0
    assert f"picture: {picture}" in finished.output
    assert re.search(r"^samples +mean\n-+\n20 +-?\d\.\d{3}$", finished.output, re.M)


@pytest.mark.parametrize("missing", ["metrics.json", "report"])
def test_only_a_missing_result_is_made_again(finished, copy, missing):
    path = copy / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    hooks = tiny.hooks()
    assert launch.run(tiny.build(tiny.Config(), hooks), copy) == finished.metrics
    assert hooks.calls["evaluate"] == hooks.calls["report"] == 1
    assert hooks.calls["sampler"] == 0
    assert path.exists()


def test_numbers_become_those_of_json():
    value = {"a": np.float32(0.5), "b": [np.nan, np.arange(2)], "c": (True, np.inf), "d": "text"}
    assert evaluate.plain(value) == {"a": 0.5, "b": [None, [0, 1]], "c": [True, None], "d": "text"}
    json.dumps(evaluate.plain(value), allow_nan=False)


@pytest.mark.parametrize("name", ["evaluate", "report", "table"])
def test_a_function_that_returns_nothing_is_named(copy, name):
    (copy / "metrics.json").unlink()
    experiment = tiny.build(tiny.Config())._replace(**{name: lambda *arguments: None})
    with pytest.raises(Refusal, match=f"the experiment's {name} returns NoneType; it must return a"):
        launch.run(experiment, copy)


def test_numbers_of_numpy_are_written_as_json(copy):
    (copy / "metrics.json").unlink()
    odd = {"one": np.float32(0.5), "many": np.arange(3), "nested": {"none": np.nan, "two": (np.int64(2),)}}
    experiment = tiny.build(tiny.Config())._replace(evaluate=lambda *given: odd, table=lambda found: [("a",)])
    launch.run(experiment, copy)
    found = json.loads((copy / "metrics.json").read_text())
    assert {name: found[name] for name in odd} == {
        "one": 0.5,
        "many": [0, 1, 2],
        "nested": {"none": None, "two": [2]},
    }


@pytest.mark.parametrize(("event", "drawn"), [((5, 6, 2), True), ((2,), False)])
def test_images_are_drawn_with_their_nearest_examples(tmp_path, monkeypatch, event, drawn):
    real = np.random.default_rng(0).random((40, *event)).astype(np.float32)
    batches = lambda *, batch, seed, start=0: iter([{"x": real}] * 200)
    experiment = tiny.build(tiny.Config())._replace(batches=batches)
    seen = []
    monkeypatch.setattr(
        evaluate.plots, "pairs", lambda axes, above, below, title: seen.append((above, below))
    )
    samples = {"other": np.zeros((3, 7)), "one": real[:30] + 1e-3, "two": real}
    paths = evaluate.report(experiment, samples, [], tmp_path)
    assert [path.name for path in paths] == ["samples.png", "nearest.png", "loss.png"][:: 1 if drawn else 2]
    assert all(path.exists() for path in paths)
    for above, below in seen:
        assert np.array_equal(above, samples["one"][:24])
        np.testing.assert_allclose(below, real[:24], atol=1e-6)
    assert len(seen) == drawn

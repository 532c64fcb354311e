"""--inception: the FID of every experiment's samples."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import digits
from experiments.common import report as common
from experiments.families import judging
from jaxscore import data, importers, launch, metrics, networks, sharding
from jaxscore.launch import FlagError, evaluate, fid
from jaxscore.launch.signals import Interrupted, Signals
from jaxscore.metrics import inception
from tests.launch import tiny

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 4, 4, 1), np.uint8)
SAMPLES = RNG.random((30, 4, 4, 1), np.float32)
DATA = data.Dataset(data.held(IMAGES), np.zeros(40, np.int32))


def flat(x):
    """The features of the network that stands for Inception: eight bytes of an image."""
    assert x.dtype == np.uint8
    return x.reshape(len(x), -1)[:, :8].astype(np.float32)


@pytest.fixture
def weights(monkeypatch, tmp_path):
    """A file of weights, and a small network in place of Inception."""
    path = tmp_path / "weights.npz"
    path.write_bytes(b"weights")
    monkeypatch.setattr(inception, "FEATURES", 8)
    monkeypatch.setattr(fid, "MEASURED", {})
    monkeypatch.setattr(inception, "features", lambda path: flat)
    return path


def experiment(**flags):
    """The small experiment, with images in place of points."""
    found = tiny.build(tiny.Config(**flags))
    images = lambda params, keys: {"one": jax.vmap(lambda key: jax.random.uniform(key, (4, 4, 1)))(keys)}
    return found._replace(data=DATA, samplers={"one": images}, evaluate=None, table=None)


def expected(x):
    return metrics.frechet(flat(np.round(255 * np.clip(x, 0, 1)).astype(np.uint8)), flat(IMAGES))


def judged(weights, tmp_path, samples=None, **flags):
    samples = {"one": SAMPLES} if samples is None else samples
    return fid.judge(experiment(inception=weights, **flags), samples, tmp_path)


def test_the_fid_is_that_of_the_samples_rounded_to_bytes(weights, tmp_path):
    far = 1.2 * SAMPLES - 0.1
    samples = {"near": SAMPLES, "far": far, "lost": SAMPLES * np.nan, "points": SAMPLES[:, 0, 0]}
    found = judged(weights, tmp_path, samples)
    assert found["samplers"].keys() == {"near", "far", "lost"}
    assert found["samplers"]["near"] == pytest.approx(expected(SAMPLES), rel=1e-9)
    assert found["samplers"]["far"] == pytest.approx(expected(far), rel=1e-9)
    assert found["samplers"]["lost"] is None
    how, few, clipped = found["notes"]
    assert "resized to 299 x 299 by bilinear" in how
    assert "grey images repeated" in how
    assert "30 samples against 40 images of the data" in how
    assert "papers have 50,000 samples" in few
    assert "% of the pixels of far lay outside 0..1" in clipped


def test_the_statistics_of_the_data_are_computed_once(weights, tmp_path, monkeypatch):
    first = judged(weights, tmp_path)
    theirs = inception.read(tmp_path / "fid_reference.npz")
    np.testing.assert_allclose(theirs.mean, flat(IMAGES).mean(axis=0), rtol=1e-6)
    assert theirs.n == 40
    monkeypatch.setattr(fid, "MEASURED", {})
    monkeypatch.setattr(data.Images, "__getitem__", lambda *arguments: pytest.fail("read again"))
    assert judged(weights, tmp_path) == first
    # Another run names the file; there, the samples are compared with the same statistics.
    named = judged(weights, tmp_path, fid_reference=tmp_path / "fid_reference.npz")
    assert named["samplers"] == first["samplers"]
    assert "40 images of " + str(tmp_path) in named["notes"][0]


def test_other_data_are_measured_again(weights, tmp_path):
    first, halved = judged(weights, tmp_path), data.held(IMAGES // 2)
    other = experiment(inception=weights)._replace(reference=halved)
    assert fid.made_from(other) != first["made_from"]
    second = fid.judge(other, {"one": SAMPLES}, tmp_path)
    assert second["samplers"]["one"] > first["samplers"]["one"]
    np.testing.assert_allclose(
        inception.read(tmp_path / "fid_reference.npz").mean, flat(IMAGES // 2).mean(axis=0), rtol=1e-6
    )


def test_too_few_images_are_said(weights, tmp_path):
    found = judged(weights, tmp_path, {"one": SAMPLES[:8]})
    assert np.isfinite(found["samplers"]["one"])
    assert found["notes"][1] == "FID: far too large, because there are no more than 8 samples or images"


def test_a_signal_stops_it_and_what_is_measured_is_kept(weights, tmp_path, monkeypatch):
    signals, sizes = Signals(), []

    def interrupted(x):
        sizes.append(len(x))
        signals.received = sizes == [30, 10, 30]  # the reference, and half of the samples
        return flat(x)

    monkeypatch.setattr(inception, "features", lambda path: interrupted)
    monkeypatch.setattr(inception, "BATCH", 2)
    samples = {"one": np.concatenate([SAMPLES] * 2)}
    monkeypatch.setattr(jax, "local_device_count", lambda: 15)  # parts of 30 images
    with pytest.raises(Interrupted, match="stopped while computing the FID"):
        fid.judge(experiment(inception=weights), samples, tmp_path, signals)
    assert inception.read(tmp_path / "fid_reference.npz").n == 40


# The table ----------------------------------------------------------------------------------------

ROW = {"frechet": 1.0, "evaluations": 3}
TABLES = {
    "default": (evaluate.table, {"samplers": {"one": ROW}}),
    "digits": (lambda found: common.table({"one": "One"}, found), {"one": ROW, "real": {}}),
    "families": (judging.table, {"samplers": {"one": ROW}}),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_have_a_column_with_the_flag_only(name):
    table, found = TABLES[name]
    found = json.loads(json.dumps(found))  # the entry is made in place
    assert "FID" not in table(found)[0]
    value = {"samplers": {"one": 12.3456}, "notes": ["how"]}
    rows = table(fid.entered(found, value))
    assert rows[1][rows[0].index("FID")] == "12.346"
    assert fid.lines(found | {fid.KEY: value}, rows[0]) == ["how"]


def test_a_table_without_the_column_is_followed_by_the_values():
    value = {"samplers": {"one": 12.3456, "two": None}, "notes": ["how"]}
    found = fid.entered({"mean": [1.0], "one": 3.0}, value)
    assert found == {"mean": [1.0], "one": 3.0, fid.KEY: value}
    assert fid.lines(found, ("samples", "mean")) == ["FID: one 12.346, two not finite", "how"]
    assert fid.lines({"mean": 1.0}, ("samples", "mean")) == []


# The flags ----------------------------------------------------------------------------------------


def refused(match, changes=(), **flags):
    with pytest.raises(FlagError, match=match) as error:
        fid.require_inputs(experiment(**flags)._replace(**dict(changes)), sharding.mesh())
    assert "\n" not in str(error.value)


def test_files_that_do_not_fit_are_refused_before_training(tmp_path):
    refused(
        rf"^--inception {tmp_path}/no\.pth: No such file.*give pytorch-fid's", inception=tmp_path / "no.pth"
    )
    np.savez(tmp_path / "other.npz", weight=np.zeros(3))
    refused(r"^--inception .*other\.npz: not the Inception network.*lacks", inception=tmp_path / "other.npz")


def test_references_that_do_not_fit_are_refused(weights, tmp_path):
    np.savez(tmp_path / "other.npz", mu=np.zeros(8))
    bad = tmp_path / "other.npz"
    refused(r"^--fid-reference .*no array 'sigma'; give an", inception=weights, fid_reference=bad)
    absent = tmp_path / "no.npz"
    refused(r"^--fid-reference .*no\.npz: No such file", inception=weights, fid_reference=absent)
    with pytest.raises(FlagError, match=r"^--fid-reference x: needs --inception"):
        tiny.Config(fid_reference=Path("x"))


REFUSED = {
    "no data": ({"data": None}, "the experiment has no `data`.*give --fid-reference FILE"),
    "points": ({"data": tiny.DATA}, r"data of shape \[4, 2\] are not two or more images"),
    "one image": ({"reference": IMAGES[:1] / np.float32(255)}, r"data of shape \[1, 4, 4, 1\] are not two"),
    "range": ({"reference": IMAGES / np.float32(127.5) - 1}, "pixels from -1 to 1, and must have bytes or"),
    "samples": (
        {"samplers": {"one": lambda params, keys: {"x": jax.vmap(jax.random.normal)(keys)}}},
        "are no images",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_fid_that_cannot_be_computed_is_refused(weights, name):
    changes, message = REFUSED[name]
    refused(f"^--inception .*{message}", changes, inception=weights)


# Runs ---------------------------------------------------------------------------------------------


def test_the_fid_is_added_to_a_finished_run(weights, copy, monkeypatch):
    hooks, said = tiny.hooks(), []
    monkeypatch.setattr(launch.console, "say", said.append)
    monkeypatch.setattr(fid, "require_inputs", lambda experiment, mesh: None)  # its samples are points
    monkeypatch.setattr(
        fid, "judge", lambda *given: {"samplers": {"one": 3.0}, "notes": [], "made_from": "a"}
    )
    monkeypatch.setattr(fid, "made_from", lambda experiment: "a")
    before = json.loads((copy / "metrics.json").read_text())
    found = launch.run(tiny.build(tiny.Config(inception=weights), hooks), copy)
    assert found == json.loads((copy / "metrics.json").read_text())
    assert found == before | {fid.KEY: {"samplers": {"one": 3.0}, "notes": [], "made_from": "a"}}
    assert "FID: one 3.000" in "\n".join(said)
    assert not any("has changed" in line for line in said)
    monkeypatch.setattr(fid, "judge", lambda *given: pytest.fail("computed again"))
    assert launch.run(tiny.build(tiny.Config(inception=weights), hooks), copy) == found
    assert launch.run(tiny.build(tiny.Config(), hooks), copy) == found  # the samples are the same
    assert not hooks.calls["evaluate"] + hooks.calls["sampler"]


@pytest.mark.slow
def test_digits_from_the_flag_to_the_table(tmp_path, monkeypatch):
    """The whole network with random weights; the distance is that of 64 features, to be quick."""
    monkeypatch.setattr(inception, "BATCH", 1)
    few = lambda found: inception.Statistics(found.mean[:64], found.covariance[:64, :64])
    fid_of = inception.fid
    monkeypatch.setattr(inception, "fid", lambda a, b: fid_of(few(a), few(b)))
    found = data.digits()
    np.savez(tmp_path / "few.npz", images=found.examples[:8], labels=found.labels[:8])
    write_weights(tmp_path / "weights.npz")
    config = digits.Config(
        data=f"npz:{tmp_path / 'few.npz'}",
        workdir=tmp_path / "run",
        inception=tmp_path / "weights.npz",
        steps=2,
        samples=4,
        width=8,
        classifiers=1,
    )
    said = []
    monkeypatch.setattr(launch.console, "say", said.append)
    results = launch.run(digits.build(config), config.workdir)
    values = results[fid.KEY]["samplers"]
    assert values.keys() == {"heun", "langevin", "langevin_without_denoising"}
    assert all(results[name]["fid"] == value and value > 0 for name, value in values.items())
    assert "  FID" in "\n".join(said)
    assert "4 samples against 8 images of the data" in "\n".join(said)


def write_weights(path):
    """Weights with the names and shapes of the published ones; the features depend on the image."""
    shapes = jax.eval_shape(networks.Inception().init, jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    state, rng = {}, np.random.default_rng(0)
    for name, layer in shapes["params"].items():
        h, w, inputs, outputs = layer["kernel"].shape
        scale = np.float32((2 / (h * w * inputs)) ** 0.5)
        state[f"{name}.conv.weight"] = scale * rng.standard_normal((outputs, inputs, h, w), np.float32)
        ones, zeros = np.ones(outputs, np.float32), np.zeros(outputs, np.float32)
        state |= {f"{name}.bn.weight": ones, f"{name}.bn.running_var": ones}
        state |= {f"{name}.bn.bias": zeros, f"{name}.bn.running_mean": zeros}
    np.savez(path, **state)
    importers.inception.params(state)

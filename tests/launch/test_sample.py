"""Sampling: the samples of a seed, in parts of any size, and when they are drawn again."""

import signal

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import launch
from jaxscore.launch import Interrupted, Refusal, provenance, workdir
from tests.grids import rest
from tests.launch import tiny
from tests.launch.tiny import Config, assert_identical, kill, saved_steps


def test_samples_have_their_names_shapes_and_types(finished):
    samples, stamp = workdir.read_samples(finished.folder / "samples.npz")
    assert {name: (array.shape, array.dtype) for name, array in samples.items()} == {
        "one": ((20, 2), np.float32),  # 20 rows from chunks of 16, by 8 devices
        "start": ((20, 2), np.float32),
        "length": ((20,), np.float32),
    }
    made_from = provenance.describe(tiny.build(Config()), finished.folder)
    assert stamp == workdir.stamp(made_from, 12)
    assert all(np.isfinite(array).all() for array in samples.values())
    assert len(np.unique(samples["one"], axis=0)) == 20  # no chunk is drawn twice
    np.testing.assert_allclose(samples["length"], np.sum(samples["start"] ** 2, axis=1), rtol=1e-6)


@pytest.mark.parametrize(("samples", "chunk"), [(20, 1), (50, 24), rest(3, 16), rest(20, 8), rest(20, 1000)])
def test_a_sample_depends_on_its_number_alone(finished, copy, samples, chunk):
    config = Config(samples=samples, sample_batch=chunk)
    (copy / "samples.npz").unlink()  # else those of the same settings would be kept
    launch.run(tiny.build(config), copy, mode="sample")
    ours, _ = workdir.read_samples(copy / "samples.npz")
    theirs, _ = workdir.read_samples(finished.folder / "samples.npz")
    both = min(samples, 20)
    assert {len(np.unique(array, axis=0)) for array in ours.values()} == {samples}
    # Matrix products of other sizes round differently; two different samples differ by about 1.
    ours, theirs = ({name: array[:both] for name, array in some.items()} for some in (ours, theirs))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_damaged_samples_are_drawn_again(finished, copy):
    path = copy / "samples.npz"
    whole = workdir.read_samples(path)[0]
    path.write_bytes(path.read_bytes()[:300])
    launch.run(tiny.build(Config()), copy)
    assert_identical(workdir.read_samples(path)[0], whole)


def test_samples_that_are_not_finite_are_not_written(copy):
    broken = lambda params, keys: jnp.full((len(keys), 2), jnp.nan)
    experiment = tiny.build(Config(samples=30))._replace(samplers={"broken": broken})
    before = (copy / "samples.npz").read_bytes()
    with pytest.raises(launch.NonFinite, match="samples 'broken' are not finite"):
        launch.run(experiment, copy, mode="sample")
    assert (copy / "samples.npz").read_bytes() == before


def test_a_signal_while_sampling_leaves_no_half_of_them(finished, copy, monkeypatch):
    compile_sampler = launch.sample.compile_sampler
    (copy / "samples.npz").unlink()

    def interrupted(*arguments):
        kill(signal.SIGTERM)()
        return compile_sampler(*arguments)

    monkeypatch.setattr(launch.sample, "compile_sampler", interrupted)
    with pytest.raises(Interrupted, match="stopped while sampling"):
        launch.run(tiny.build(Config()), copy)
    assert saved_steps(copy) == [6, 12]
    assert not (copy / "samples.npz").exists()
    monkeypatch.undo()
    assert launch.run(tiny.build(Config()), copy)["mean"] == finished.metrics["mean"]


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        ({"stamp": np.zeros((16, 2))}, "sampler two returns an array 'stamp'; that name is taken"),
        ({"one": np.zeros((16, 2))}, "sampler two returns an array 'one'; that name is taken"),
        ({"allow_pickle": np.zeros((16, 2))}, "sampler two returns an array 'allow_pickle'; that name is"),
        ({"../two": np.zeros((16, 2))}, "sampler two returns an array '../two'; names are"),
        ({"x" * 101: np.zeros((16, 2))}, "sampler two returns an array 'x*'; names are"),
        ({3: np.zeros((16, 2))}, "sampler two returns an array '3'; names are"),
        (np.zeros((8, 2)), "sampler two returns 8 samples for 16 keys"),
        (np.zeros((17, 2)), "sampler two returns 17 samples for 16 keys"),
    ],
)
def test_samples_that_would_be_lost_are_refused(finished, copy, drawn, said):
    experiment = tiny.build(Config(samples=16))
    samplers = {"one": experiment.samplers["one"], "two": lambda params, keys: drawn}
    with pytest.raises(Refusal, match=said):
        launch.run(experiment._replace(samplers=samplers), copy, mode="sample")


@pytest.mark.parametrize(
    ("samplers", "said"),
    [
        ({"two": lambda params, keys: None}, "sampler two returns NoneType; it must return an array"),
        ({"two": lambda params, keys: {"x": {"y": keys}}}, "sampler two returns dict; it must return an"),
        ({"two": lambda params, keys: np.float32(3)}, "sampler two returns .*; it must return an array"),
        ({}, "experiment tiny has no samplers; give it one, or choose --mode train"),
    ],
)
def test_a_sampler_that_draws_nothing_is_refused_untrained(tmp_path, samplers, said):
    with pytest.raises(Refusal, match=said):
        launch.run(tiny.build(Config())._replace(samplers=samplers), tmp_path / "run")
    assert saved_steps(tmp_path / "run") == []


def test_the_number_of_samples_is_checked_for_all_keys_untrained(tmp_path):
    """One key has as many samples as it should; sampling draws 16 at a time."""
    half = lambda params, keys: jnp.zeros(((len(keys) + 1) // 2, 2))
    with pytest.raises(Refusal, match="sampler half returns 8 samples for 16 keys"):
        launch.run(tiny.build(Config())._replace(samplers={"half": half}), tmp_path / "run")
    assert saved_steps(tmp_path / "run") == []


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_samples_of_16_bits_are_stored_as_float32(copy, dtype):
    experiment = tiny.build(Config())
    narrow = lambda params, keys: experiment.samplers["one"](params, keys).astype(dtype)
    launch.run(experiment._replace(samplers={"one": narrow}), copy, mode="sample")
    found = workdir.read_samples(copy / "samples.npz")[0]["one"]
    assert found.dtype == np.float32

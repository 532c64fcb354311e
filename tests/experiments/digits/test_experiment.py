"""The digits experiment: its parts here, and as the program that a user starts."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.digits import experiment as digits
from experiments.digits import report as digits_report
from experiments.digits.config import Heun, Langevin
from jaxscore import data, likelihood
from jaxscore.launch import flags, metrics_log, workdir
from jaxscore.updates import Context
from tests import compiler
from tests.experiments.pictures import ink
from tests.launch.tiny import assert_identical, newest

BATCH = 512


def context():
    return Context(jax.random.key(1), jnp.int32(0), ())


def small(**changes) -> digits.Config:
    fields = {"batch": BATCH, "width": 16, "depth": 1}
    fields |= {"heun": Heun(levels=3), "langevin": Langevin(levels=3, steps=1)}
    return digits.Config(**fields | changes)


# Parts ----------------------------------------------------------------------------------------


def test_the_fid_compares_with_the_images_of_the_label():
    images, labels, _ = data.digits()
    np.testing.assert_array_equal(digits.build(small()).reference, images)
    one = digits.build(small(conditional=True, label=3))
    np.testing.assert_array_equal(one.reference, images[labels == 3])


def test_batches_are_digits_which_the_units_centre():
    images, experiment = data.digits().examples, digits.build(small())
    stream = experiment.batches(batch=BATCH, seed=0)
    epoch = np.concatenate([next(stream)["x"] for _ in range(4)])[:1797]
    assert epoch.dtype == np.float32
    order = lambda x: np.unique(np.round(x.reshape(1797, 64) * 16).astype(int), axis=0)
    np.testing.assert_array_equal(order(epoch), order(images))
    centred = experiment.units.encode(epoch)
    np.testing.assert_allclose(centred.mean(axis=0), 0, atol=1e-5)  # float32 sums
    np.testing.assert_allclose(experiment.units.decode(centred), epoch, atol=1e-6)


def test_dequantised_images_fill_cells_and_samples_leave_them():
    experiment = digits.build(small(dequantise=True))
    images = data.digits().examples[:50]
    filled = likelihood.dequantise(jax.random.key(0), images, values=17, encode=experiment.units.encode).x
    assert np.abs(filled - experiment.units.encode(images)).max() > 0.05
    np.testing.assert_allclose(experiment.units.decode(filled), images, atol=1e-6)


def test_the_loss_of_the_likelihood_is_uniform_in_ln_sigma():
    """The untrained network has the score of a Gaussian, whose loss by level is known up to the data's."""
    seen = {}
    for weight in ("edm", "likelihood"):
        experiment = digits.build(small(weight=weight, dequantise=True))
        params = experiment.init(jax.random.key(0))
        batch = next(experiment.batches(batch=BATCH, seed=0))
        value, metrics = experiment.loss(params, context(), batch)
        counts = metrics["by_sigma"]["count"]
        seen[weight] = np.asarray(counts) / counts.sum()
        assert np.isfinite(value)
    edges = np.log([0.02, *digits_report.BIN_EDGES, 20.0])
    # The levels are stratified: each bin has its part of the batch, but for one example.
    np.testing.assert_allclose(seen["likelihood"], np.diff(edges) / np.ptp(edges), atol=2 / BATCH)
    assert np.abs(seen["edm"] - seen["likelihood"]).max() > 0.1


def test_the_untrained_loss_is_the_same_at_every_noise_level():
    experiment = digits.build(small())
    params = jax.jit(experiment.init)(jax.random.key(0))
    batch = next(experiment.batches(batch=BATCH, seed=0))
    value, metrics = jax.jit(experiment.loss)(params, context(), batch)
    bins = metrics["by_sigma"]
    assert bins["count"].sum() == BATCH
    assert len(bins["count"]) == len(digits_report.BIN_EDGES) + 1
    # With a zero network the weighted half square is 1/2 per pixel, of 64; in a bin of about 50
    # examples whose square spreads by a quarter it is known to 4 %.
    np.testing.assert_allclose(value, 32, rtol=0.05)
    seen = bins["count"] > 20
    assert seen.sum() >= 3
    np.testing.assert_allclose((bins["total"] / bins["count"])[seen], 32, rtol=0.2)


def test_dropout_acts_in_training_and_not_in_sampling():
    without, dropping = (digits.build(small(dropout=rate, heun=Heun(levels=2))) for rate in (0.0, 0.5))
    params = jax.device_get(jax.jit(without.init)(jax.random.key(0)))
    rng = np.random.default_rng(0)  # some layers begin at zero, and hide what is dropped
    params = jax.tree.map(lambda p: p + 0.1 * rng.standard_normal(p.shape, np.float32), params)
    batch, keys = next(without.batches(batch=64, seed=0)), lambda: jax.random.split(jax.random.key(2), 4)
    loss = lambda experiment: jax.jit(experiment.loss)(params, context(), batch)[0]
    drawn = lambda experiment: jax.jit(experiment.samplers["heun"])(params, keys())["heun"]
    assert not np.isclose(loss(without), loss(dropping), rtol=1e-3)
    np.testing.assert_array_equal(drawn(without), drawn(dropping))


def test_samples_are_pixels_of_the_shape_of_the_data(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.random.default_rng(0).random((40, 6, 5, 3)))
    experiment = digits.build(small(data=f"npz:{tmp_path / 'x.npz'}"))
    params = jax.jit(experiment.init)(jax.random.key(0))
    drawn = {}
    for sampler in experiment.samplers.values():
        drawn |= jax.jit(sampler)(params, jax.random.split(jax.random.key(1), 5))
    assert set(drawn) == set(digits_report.ROWS)
    for x in drawn.values():
        assert (x.shape, x.dtype) == ((5, 6, 5, 3), jnp.float32)
        assert 0 <= x.min() < x.max() <= 1
        assert len(np.unique(x.reshape(5, -1), axis=0)) == 5


# The program ----------------------------------------------------------------------------------

ROOT = Path(__file__).parents[3]
STEPS = 1000
FLAGS = f"--steps {STEPS} --batch 64 --width 16 --depth 1 --samples 50 --log-every 50 --save-every 5000"
FLAGS += " --classifiers 1 --heun.levels 3 --langevin.levels 3 --langevin.steps 1"
FLAGS = FLAGS.split()

PROGRAM = [sys.executable, "-m", "experiments.digits"]
ENVIRONMENT = os.environ | compiler.environment() | {"PYTHONPATH": str(ROOT)}


def run(*arguments, cwd: Path) -> subprocess.CompletedProcess:
    """The program with its output in a pipe."""
    options = {"cwd": cwd, "env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 300}
    return subprocess.run([*PROGRAM, *arguments], check=False, **options)


def interrupt(*arguments, cwd: Path, log: Path) -> subprocess.CompletedProcess:
    """The program, stopped by Ctrl-C as soon as it has logged a loss."""
    options = {"cwd": cwd, "env": ENVIRONMENT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*PROGRAM, *arguments], text=True, **options) as process:
        while not (log.exists() and log.read_text()):
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        # A few steps and one small checkpoint, on a machine that is busy.
        output, errors = process.communicate(timeout=20)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A folder with runs `whole` and `run`, which was interrupted; what this said, and what its end."""
    cwd = tmp_path_factory.mktemp("story")
    whole = run(*FLAGS, "--workdir", "whole", "--mode", "train", cwd=cwd)
    arguments = [*FLAGS, "--workdir", "run"]
    stopped = interrupt(*arguments, cwd=cwd, log=cwd / "run" / "metrics.jsonl")
    finished = run(*arguments, cwd=cwd)
    for ended in (whole, stopped, finished):
        assert (ended.returncode, ended.stderr) == (0, "")
    return cwd, stopped.stdout, finished.stdout


@pytest.mark.slow
def test_the_stopped_run_ends_with_the_bits_of_the_whole_one(story):
    folder, output, _ = story
    said = r"stopped at step (\d+), saved in \S+; run again to go on from there"
    stopped = int(re.search(said, output)[1])
    assert 50 <= stopped < STEPS
    experiment = digits.build(flags.parse(digits.Config(), FLAGS))
    state = newest(folder / "run", experiment)
    assert int(state.step) == STEPS
    assert_identical(state, newest(folder / "whole", experiment))
    steps = [row["step"] for row in metrics_log.read(folder / "run" / "metrics.jsonl")]
    assert steps == sorted({stopped, *range(50, STEPS + 1, 50)})


@pytest.mark.slow
def test_a_run_makes_all_that_is_documented(story):
    folder, said = story[0] / "run", story[2]
    line = rf"^step \d+/{STEPS}  loss \d+\.\d{{4}}  \S+ steps/s  \S+% waiting for data  \d+ s left$"
    assert re.search(line, said, re.M)
    rows = metrics_log.read(folder / "metrics.jsonl")
    assert {len(row["loss_by_sigma"]) for row in rows} == {len(digits_report.BIN_EDGES) + 1}
    assert rows[-1]["loss"] < rows[0]["loss"]  # it learns

    samples, _ = workdir.read_samples(folder / "samples.npz")
    metrics = json.loads((folder / "metrics.json").read_text())
    evaluations = {"heun": 5, "langevin": 4, "langevin_without_denoising": 3}
    assert {name: metrics[name]["evaluations"] for name in samples} == evaluations
    for name, x in samples.items():
        assert (x.shape, x.dtype) == ((50, 8, 8, 1), np.float32)
        assert 0 <= x.min() < x.max() <= 1
        found = metrics[name]
        assert min(found["frechet"], found["nearest_neighbour_ratio"]) > 0
        assert min(found["precision"], found["recall"], found["class_kl"]) >= 0
        assert max(found["precision"], found["recall"]) <= 1
        assert f"{found['frechet']:.3f}" in said
    assert (metrics["settings"]["n"], metrics["settings"]["reference_n"]) == (50, 1797)
    assert metrics["real"]["halves_frechet"] > 0
    assert set(metrics["sampling"]) == {"heun", "langevin"}

    pictures = {"samples.png", "trajectory.png", "nearest.png", "loss.png"}
    assert {path.name for path in (folder / "report").glob("*.png")} == pictures
    for path in (folder / "report").glob("*.png"):
        assert ink(path) > 0.02
        assert f"picture: run/report/{path.name}\n" in said


@pytest.mark.slow
def test_bad_input_to_the_program_itself(tmp_path):
    ended = run("--stpes", "5", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"error: [^\n]*--stpes[^\n]*--steps[^\n]*\n", ended.stderr)
    assert list(tmp_path.iterdir()) == []

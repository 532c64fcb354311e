"""The digits experiment: its parts here, and as the program that a user starts."""

import dataclasses
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

from experiments.digits import experiment as digits
from experiments.digits import report as digits_report
from experiments.digits.config import Heun, Langevin
from jaxscore import data
from jaxscore.data import DataError
from jaxscore.launch import flags, metrics_log, workdir
from jaxscore.launch.flags import FlagError
from jaxscore.updates import Context
from tests.launch.tiny import assert_identical, newest, snapshot

ROOT = Path(__file__).parents[3]


BATCH = 512


def context():
    return Context(jax.random.key(1), jnp.int32(0), ())


def small(**changes) -> digits.Config:
    fields = {
        "batch": BATCH,
        "width": 16,
        "depth": 1,
        "heun": Heun(levels=3),
        "langevin": Langevin(levels=3, steps=1),
    }
    return digits.Config(**fields | changes)


# Parts ----------------------------------------------------------------------------------------


def test_batches_are_centred_digits():
    images = data.digits().examples
    stream = digits.build(small()).batches(batch=512, seed=0)
    epoch = np.concatenate([next(stream)["x"] for _ in range(4)])[:1797]
    assert epoch.dtype == np.float32
    np.testing.assert_allclose(epoch.mean(axis=0), 0, atol=1e-5)  # float32 sums
    back = epoch / 2 + images.mean(axis=0)[None]
    order = lambda x: np.unique(np.round(x.reshape(1797, 64) * 16).astype(int), axis=0)
    np.testing.assert_array_equal(order(back), order(images))


def test_the_untrained_loss_is_the_same_at_every_noise_level():
    experiment = digits.build(small())
    params = experiment.init(jax.random.key(0))
    value, metrics = jax.jit(experiment.loss)(
        params, context(), next(experiment.batches(batch=BATCH, seed=0))
    )
    bins = metrics["by_sigma"]
    assert bins["count"].sum() == 512
    assert len(bins["count"]) == len(digits_report.BIN_EDGES) + 1
    # With a zero network the weighted half square is 1/2 per pixel, of 64; in a bin of about 50
    # examples whose square spreads by a quarter it is known to 4 %.
    np.testing.assert_allclose(value, 32, rtol=0.05)
    seen = bins["count"] > 20
    assert seen.sum() >= 3
    np.testing.assert_allclose((bins["total"] / bins["count"])[seen], 32, rtol=0.2)


def test_dropout_acts_in_training_and_not_in_sampling():
    losses, samples = [], []
    for dropout in (0.0, 0.5):
        experiment = digits.build(small(batch=64, dropout=dropout))
        params = experiment.init(jax.random.key(0))
        params = jax.tree.map(lambda p: p + 0.1 * jnp.cos(jnp.arange(p.size).reshape(p.shape)), params)
        loss, _ = jax.jit(experiment.loss)(params, context(), next(experiment.batches(batch=BATCH, seed=0)))
        losses.append(loss)
        samples.append(
            jax.jit(experiment.samplers["heun"])(params, jax.random.split(jax.random.key(2), 4))["heun"]
        )
    assert losses[0] != losses[1]
    np.testing.assert_array_equal(*samples)


@pytest.mark.parametrize("shape", [(40, 8, 8), (40, 6, 5, 3)])
def test_samples_are_pixels_of_the_shape_of_the_data(tmp_path, shape):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", images=rng.random(shape), labels=rng.integers(0, 10, 40))
    experiment = digits.build(small(data=f"npz:{tmp_path / 'x.npz'}"))
    params = experiment.init(jax.random.key(0))
    event = (*shape[1:], 1)[:3]
    drawn = {}
    for sampler in experiment.samplers.values():
        drawn |= jax.jit(sampler)(params, jax.random.split(jax.random.key(1), 5))
    assert set(drawn) == set(digits_report.ROWS)
    for x in drawn.values():
        assert x.shape == (5, *event)
        assert x.dtype == jnp.float32
        assert 0 <= x.min() < x.max() <= 1
        assert len(np.unique(x.reshape(5, -1), axis=0)) == 5


def test_absent_data_are_named():
    with pytest.raises(DataError, match=r"/nowhere\.npz"):
        digits.build(small(data="npz:/nowhere.npz"))
    with pytest.raises(DataError, match="'mnits' is not known"):
        digits.build(small(data="mnits"))


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("heun", "levels", 1),
        ("heun", "sigma_min", -0.1),
        ("heun", "sigma_max", 0.001),
        ("langevin", "levels", 1),
        ("langevin", "steps", 0),
        ("langevin", "step_size", 0.0),
        ("langevin", "step_size", 2.0),
        ("langevin", "sigma_min", 0.0),
        ("langevin", "sigma_max", 0.001),
        ("", "grey_values", 0),
        ("", "width", 0),
        ("", "depth", 0),
        ("", "dropout", 1.0),
        ("", "dropout", -0.1),
        ("", "sigma_std", 0.0),
    ],
)
def test_every_field_is_checked(part, name, value):
    with pytest.raises(FlagError) as caught:
        {"heun": Heun, "langevin": Langevin, "": small}[part](**{name: value})
    flag = f"{part}.{name}".lstrip(".").replace("_", "-")
    assert str(caught.value).startswith(f"--{flag} {value}: must ")


# The program ----------------------------------------------------------------------------------

STEPS = 1000
FLAGS = f"--steps {STEPS} --batch 64 --width 16 --depth 1 --samples 50 --log-every 50 --save-every 5000"
FLAGS = [*FLAGS.split(), "--classifiers", "1", "--heun.levels", "3"]
FLAGS += ["--langevin.levels", "3", "--langevin.steps", "1"]

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "",  # one device, as a user has
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}


@dataclasses.dataclass
class Ended:
    status: int
    output: str
    errors: str
    seconds: float
    """From the signal to the end."""


def program(*arguments, cwd: Path, environment=None, **more) -> subprocess.Popen:
    command = [sys.executable, "-m", "experiments.digits", *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, env={**ENVIRONMENT, **(environment or {})}, **more)


def run(*arguments, cwd: Path, environment=None) -> Ended:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = program(*arguments, cwd=cwd, environment=environment, **pipes)
    output, errors = process.communicate(timeout=300)
    return Ended(process.returncode, output, errors, 0.0)


def stop(*arguments, cwd: Path, number: int, terminal: bool) -> Ended:
    """Start the program, and send it the signal as soon as it shows a loss."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    environment = {"TERM": "xterm", "COLUMNS": "100"}
    pipes = {"stdout": theirs, "stderr": subprocess.PIPE}
    process = program(*arguments, cwd=cwd, environment=environment, **pipes)
    os.close(theirs)
    parts, sent = [], []

    def read():
        try:
            while part := os.read(ours, 4096):
                parts.append(part)
                if not sent and re.search(rb"loss \d", b"".join(parts)):
                    sent.append(time.monotonic())
                    process.send_signal(number)
        except OSError:  # how Linux says that the other end of a terminal is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    errors = process.stderr.read().decode()
    status, end = process.wait(timeout=300), time.monotonic()
    reader.join(timeout=10)
    os.close(ours)
    process.stderr.close()
    assert sent, b"".join(parts)
    return Ended(status, b"".join(parts).decode(), errors, end - sent[0])


@dataclasses.dataclass
class Story:
    folder: Path
    whole: Path
    """The folder of a run that was not stopped."""
    terminated: Ended
    interrupted: Ended
    finished: Ended


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A run stopped by SIGTERM, gone on with on a terminal, stopped by Ctrl-C there, and finished."""
    cwd = tmp_path_factory.mktemp("story")
    arguments = [*FLAGS, "--workdir", "run"]
    whole = run(*FLAGS, "--workdir", "whole", "--mode", "train", cwd=cwd)
    assert whole.status == 0, whole.errors
    terminated = stop(*arguments, cwd=cwd, number=signal.SIGTERM, terminal=False)
    interrupted = stop(*arguments, cwd=cwd, number=signal.SIGINT, terminal=True)
    return Story(cwd / "run", cwd / "whole", terminated, interrupted, run(*arguments, cwd=cwd))


def stopped_at(ended: Ended) -> int:
    said = re.search(r"stopped at step (\d+), saved in \S+; run again to go on from there", ended.output)
    assert said, ended.output
    return int(said[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["terminated", "interrupted"])
def test_a_signal_ends_the_program_soon_and_without_an_error(story, name):
    ended = getattr(story, name)
    assert ended.errors == ""
    assert ended.status == 0
    assert ended.seconds < 20  # a few steps and one small checkpoint, on a machine that is busy
    assert 50 <= stopped_at(ended) < STEPS


@pytest.mark.slow
def test_the_stopped_run_ends_with_the_bits_of_the_whole_one(story):
    assert story.finished.status == 0, story.finished.errors
    first, second = stopped_at(story.terminated), stopped_at(story.interrupted)
    assert first < second
    experiment = digits.build(flags.parse(digits.Config(), FLAGS))
    state = newest(story.folder, experiment)
    assert int(state.step) == STEPS
    assert_identical(state, newest(story.whole, experiment))
    steps = [row["step"] for row in metrics_log.read(story.folder / "metrics.jsonl")]
    assert steps == sorted({first, second, *range(50, STEPS + 1, 50)})


@pytest.mark.slow
def test_a_terminal_has_a_bar_and_a_pipe_has_lines(story):
    assert "━" in story.interrupted.output
    assert f"/{STEPS}" in story.interrupted.output
    assert "\x1b[" in story.interrupted.output
    assert not re.search(r"^step \d+/", story.interrupted.output, re.M)
    for ended in (story.terminated, story.finished):
        assert "━" not in ended.output
        assert "\x1b" not in ended.output
        assert re.search(
            rf"^step \d+/{STEPS}  loss \d+\.\d{{4}}  \S+ steps/s  \S+% waiting for data  \d+ s left$",
            ended.output,
            re.M,
        )


@pytest.mark.slow
def test_a_run_makes_all_that_is_documented(story):
    folder = story.folder
    assert story.finished.status == 0
    assert story.finished.errors == ""
    names = {"config.json", "metrics.jsonl", "checkpoints", "samples.npz", "metrics.json", "report"}
    assert {path.name for path in folder.iterdir()} == names | {"sampling.json"}

    config = flags.parse(digits.Config(), [*FLAGS, "--workdir", "run"])
    description = workdir.describe("digits", config)
    assert json.loads((folder / "config.json").read_text()) == description

    rows = metrics_log.read(folder / "metrics.jsonl")
    for row in rows:
        assert set(row) == {
            "step",
            "steps_per_second",
            "input_wait",
            "loss",
            "grad_norm",
            "loss_by_sigma",
            "sigma_edges",
        }
        assert len(row["loss_by_sigma"]) == len(digits_report.BIN_EDGES) + 1
    assert rows[-1]["loss"] < rows[0]["loss"]  # it learns

    with np.load(folder / "samples.npz", allow_pickle=False) as file:
        samples = dict(file)
    assert str(samples.pop("stamp")) == workdir.stamp(description, STEPS)
    assert set(samples) == {"heun", "langevin", "langevin_without_denoising"}
    for x in samples.values():
        assert x.shape == (50, 8, 8, 1)
        assert x.dtype == np.float32
        assert 0 <= x.min() < x.max() <= 1

    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["settings"]["n"] == 50
    assert metrics["settings"]["reference_n"] == 1797
    assert metrics["real"]["halves_frechet"] > 0
    assert set(metrics["sampling"]) == {"heun", "langevin"}
    for name in samples:
        found = metrics[name]
        assert found["evaluations"] in (3, 4, 5)  # 3 levels: 3 of Langevin, 4 with denoising, 5 of Heun
        assert found["frechet"] > 0
        assert 0 <= found["precision"] <= 1
        assert 0 <= found["recall"] <= 1
        assert found["class_kl"] >= 0
        assert found["nearest_neighbour_ratio"] > 0
        assert f"{found['frechet']:.3f}" in story.finished.output

    pictures = {"samples.png", "trajectory.png", "nearest.png", "loss.png"}
    assert {path.name for path in (folder / "report").iterdir()} == pictures
    for path in (folder / "report").iterdir():
        assert np.ptp(matplotlib.image.imread(path)[..., :3]) > 0.5
        assert f"picture: run/report/{path.name}\n" in story.finished.output


# Bad input ------------------------------------------------------------------------------------

DEVICES = "--xla_force_host_platform_device_count="

BAD_INPUT = {
    # name: (flags, XLA_FLAGS, what the line must say)
    "misspelt flag": ("--stpes 5", "", ["--stpes", "--steps"]),
    "wrong type": ("--steps many", "", ["--steps", "many"]),
    "negative sigma": ("--heun.sigma-min -1", "", ["--heun.sigma-min -1.0: must be above 0"]),
    "unordered sigmas": ("--langevin.sigma-max 0.001", "", ["--langevin.sigma-max 0.001: must exceed"]),
    "zero steps": ("--steps 0", "", ["--steps 0: must be at least 1"]),
    "batch and 3 devices": ("--batch 64", DEVICES + "3", ["--batch 64", "divisible by the 3 devices"]),
    "batch and 8 devices": ("--batch 60", DEVICES + "8", ["--batch 60", "divisible by the 8 devices"]),
    "a file": ("--workdir file", "", ["--workdir file", "is a file"]),
    "not writable": ("--workdir file/run", "", ["--workdir file/run", "cannot be written"]),
    "another experiment": ("--workdir toy2d", "", ["--workdir toy2d", "a run of toy2d"]),
    "somebody's folder": ("--workdir foreign", "", ["--workdir foreign", "not empty"]),
    "another network": ("--workdir STORY --width 32", "", ["another network", "float32[16]", "float32[32]"]),
    "fewer steps": (f"--workdir STORY --steps {STEPS - 1}", "", [f"--steps {STEPS - 1}", f"{STEPS} steps"]),
    "absent file": ("--data npz:/nowhere.npz", "", ["/nowhere.npz"]),
    "unknown data": ("--data mnits", "", ["'mnits'", "digits"]),
    "nothing to sample from": ("--mode sample", "", ["--mode sample", "no checkpoint"]),
    "not finite": (
        "--optimizer.learning-rate 1e30 --workdir diverged",
        "",
        ["at step 2", "last finite loss", "none yet", "lower --optimizer.learning-rate"],
    ),
}


FORK = """
import json, os, runpy, sys
import experiments.digits  # once for all: the imports take longer than what is tested
for number, (cwd, arguments, devices) in enumerate(json.loads(sys.argv[1])):
    child = os.fork()
    if not child:
        os.chdir(cwd)
        os.environ["XLA_FLAGS"] = devices
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{cwd}.{name}", os.O_WRONLY | os.O_CREAT), stream)
        sys.argv = ["digits", *arguments]
        sys.modules.pop("experiments.digits")
        runpy.run_module("experiments.digits", run_name="__main__", alter_sys=True)
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""`python -m experiments.digits` in one process after another, without importing JAX for each."""


@pytest.fixture(scope="module")
def refusals(story, tmp_path_factory):
    """Every bad input's end, and the files before and after, of its own folder and of the run's."""
    parent, cases = tmp_path_factory.mktemp("bad"), []
    for number, (words, devices, _) in enumerate(BAD_INPUT.values()):
        cwd = parent / str(number)
        cwd.mkdir()
        (cwd / "file").write_text("mine")
        for folder, file, text in [
            ("toy2d", "config.json", '{"experiment": "toy2d"}'),
            ("foreign", "thesis.tex", "mine"),
        ]:
            (cwd / folder).mkdir()
            (cwd / folder / file).write_text(text)
        cases.append((str(cwd), [*FLAGS, *words.replace("STORY", str(story.folder)).split()], devices))

    folders = [Path(cwd) for cwd, _, _ in cases]
    everything = lambda: [(snapshot(folder), snapshot(story.folder)) for folder in folders]
    before = everything()
    done = subprocess.run(
        [sys.executable, "-c", FORK, json.dumps(cases)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
    )
    ended = [
        Ended(int(status), Path(f"{cwd}.out").read_text(), Path(f"{cwd}.err").read_text(), 0.0)
        for status, cwd in zip(done.stdout.split(), folders, strict=True)
    ]
    return dict(zip(BAD_INPUT, zip(ended, before, everything(), strict=True), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_one_line_and_status_2_and_writes_nothing(refusals, name):
    ended, before, after = refusals[name]
    assert ended.status == 2
    assert re.fullmatch(r"error: [^\n]+\n", ended.errors), ended.errors
    assert "Traceback" not in ended.output + ended.errors
    for words in BAD_INPUT[name][2]:
        assert words in ended.errors
    if name == "not finite":
        # It has trained, so its folder is there, with what it was asked and without a checkpoint.
        new = set(after[0]) - set(before[0])
        assert new <= {f"diverged{path}" for path in ("", "/config.json", "/metrics.jsonl", "/checkpoints")}
    else:
        assert after == before
        assert ended.output == ""


@pytest.mark.slow
def test_bad_input_to_the_program_itself(tmp_path):
    ended = run("--stpes", "5", cwd=tmp_path)
    assert ended.status == 2
    assert re.fullmatch(r"error: [^\n]*--stpes[^\n]*--steps[^\n]*\n", ended.errors)
    assert ended.output == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_help_is_no_error(tmp_path):
    ended = run("--help", cwd=tmp_path)
    assert ended.status == 0
    assert ended.errors == ""
    assert "--heun.sigma-min" in ended.output
    assert list(tmp_path.iterdir()) == []

"""The launcher: flags -> Config -> build -> Experiment -> train, sample, evaluate, report.

An experiment is one file with a frozen dataclass `Config(config.Config)`, whose defaults are the
recipe, and `build(config) -> Experiment`. `main` parses flags and exits with a status; `run` does
the work, and is what tests and notebooks call:

    launch.run(build(Config(steps=200)), workdir)

The three jits are here (init, step, sample), with their shardings and the donation of the state.
"""

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Simulated CPU devices hang with too few threads, and one device is slowed down by too many. The
# client reads this when it starts.
_simulated = re.search(r"xla_force_host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", ""))
if _simulated:
    os.environ.setdefault("NPROC", str(max(2 * int(_simulated[1]), os.cpu_count() or 1)))

import jax
import numpy as np

from experiments import console, flags, logbook, workdir
from experiments.config import Config, Experiment
from experiments.logbook import Logbook, NonFinite
from experiments.signals import Interrupted, Signals
from experiments.workdir import Refusal
from jaxscore import checkpoint, ema, noise, sharding, trainer
from jaxscore.checkpoint import CheckpointError
from jaxscore.data import DataError

INIT, TRAIN, SAMPLE = range(3)
"""The streams of randomness: each is the seed's key folded with its number."""

MODES = ("train", "sample", "evaluate")


def main(build: Callable[[Any], Experiment], defaults: Config) -> None:
    """Parse flags, build, run. Bad input is one line on standard error and exit status 2."""
    with one_line_errors():
        config = flags.parse(defaults)
        with one_line_errors(config.workdir):
            run(build(config), config.workdir, mode=config.mode)


@contextlib.contextmanager
def one_line_errors(folder: Path | None = None) -> Iterator[None]:
    """What goes wrong within is one line on standard error, and the process exits.

    With status 2 for bad input, data that are absent and a full disk; 130 for an interruption that
    nothing listened for, and 0 for one after which the run can go on. An error of the operating
    system that names no file is put down to the folder.
    """
    # Orbax logs whole tracebacks of what it also raises, and of what is then one line here.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    except (flags.FlagError, Refusal, DataError, CheckpointError, NonFinite) as error:
        console.complain(str(error))
        raise SystemExit(2) from None
    except OSError as error:
        console.complain(f"{error.filename or folder}: {error.strerror or error}")
        raise SystemExit(2) from None
    except Interrupted as interruption:
        console.say(f"{interruption}; run again to go on from there")
    except KeyboardInterrupt:  # before the run listens for signals, or a second one
        console.complain("interrupted; what had been saved before is kept")
        raise SystemExit(130) from None


def run(experiment: Experiment, folder: Path | str, *, mode: str = "all") -> dict[str, Any]:
    """Train, sample, evaluate and report in the folder; returns the metrics.

    What an earlier run has finished is not done again. Raises FlagError or Refusal for what cannot
    be done as asked, CheckpointError, NonFinite, and Interrupted after a signal.
    """
    folder, config = Path(folder), experiment.config
    devices = jax.device_count()
    flags.require(
        config.batch % devices == 0, "batch", config.batch, f"must be divisible by the {devices} devices"
    )
    modes, mesh = MODES if mode == "all" else (mode,), sharding.mesh()
    abstract = abstract_state(experiment, mesh)
    description = workdir.describe(experiment.name, config)
    if "train" not in modes and not (folder / "checkpoints").is_dir():
        raise Refusal(f"--mode {mode}: no checkpoint in {folder}; train first")
    changed = workdir.claim(folder, description, _bytes_needed(abstract) if "train" in modes else 0)
    with Signals() as signals, checkpoint.manager(folder / "checkpoints") as checkpoints:
        try:
            state = checkpoint.restore_latest(checkpoints, abstract)
        except CheckpointError as error:
            since = f" (since changed: {'; '.join(changed)})" if changed else ""
            raise CheckpointError(
                f"{error}{since}; name another --workdir, or use the flags in its config.json"
            ) from None
        _refuse_impossible(folder, config, state, modes)
        if changed:
            console.say(f"the configuration has changed: {'; '.join(changed)}")
        workdir.write_json(folder / "config.json", description)
        if "train" in modes:
            state = _train(experiment, folder, state, abstract, checkpoints, signals)
        stamp = workdir.stamp(description, int(state.step))
        if "sample" in modes:
            _sample(experiment, folder, state.ema, mesh, stamp, signals)
        return _evaluate(experiment, folder, state.ema, stamp) if "evaluate" in modes else {}


def _refuse_impossible(folder: Path, config: Config, state, modes) -> None:
    if "train" not in modes and state is None:
        raise Refusal(f"--mode {modes[0]}: no checkpoint in {folder}; train first")
    if "train" in modes and state is not None and int(state.step) > config.steps:
        raise Refusal(
            f"--steps {config.steps}: {folder} has been trained for {int(state.step)} steps; "
            "ask for as many, or name another --workdir"
        )


# Train ----------------------------------------------------------------------------------------


def init_state(experiment: Experiment) -> Callable[[Any], trainer.TrainState]:
    """key -> the state before the first step."""
    tx = experiment.config.optimizer.build(experiment.config.steps)
    return lambda key: trainer.init_state(key, experiment.init, tx)


def abstract_state(experiment: Experiment, mesh) -> trainer.TrainState:
    """Shapes first, then shardings: what the state will be, before any array is made."""
    shapes = jax.eval_shape(init_state(experiment), jax.random.key(0))
    place = sharding.replicated(mesh)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), shapes)


def make_step(experiment: Experiment) -> trainer.Step:
    """The training step of the experiment, jitted, its state donated."""
    config = experiment.config
    tx, decay = config.optimizer.build(config.steps), ema.constant(config.ema_decay)
    step = trainer.make_step(experiment.loss, tx, decay=decay)
    return jax.jit(step, donate_argnums=1, compiler_options=experiment.compiler_options)


def _train(experiment, folder, state, abstract, checkpoints, signals) -> trainer.TrainState:
    config, root = experiment.config, jax.random.key(experiment.config.seed)
    if state is None:
        places = jax.tree.map(lambda leaf: leaf.sharding, abstract)
        initialise = jax.jit(init_state(experiment), out_shardings=places)
        state = initialise(jax.random.fold_in(root, INIT))
    start = int(state.step)
    if start == config.steps:
        return state
    events = folder / "tensorboard" if config.tensorboard else None
    book = Logbook(folder / "metrics.jsonl", start, events=events)
    split = sharding.batched(sharding.mesh())
    batches = (jax.device_put(batch, split) for batch in experiment.batches(start))
    key, step = jax.random.fold_in(root, TRAIN), make_step(experiment)
    try:
        with console.TrainingDisplay(start, config.steps) as display:
            training = trainer.fit(key, state, step, batches, steps=config.steps)
            for state, metrics in training:
                number = book.append(metrics)
                display.advance(number)
                stop = signals.received  # read once: a signal may come at any line
                last = stop or number == config.steps
                if number % config.log_every == 0 or last:
                    row = book.close_interval()
                    speed = display.update(number, row["loss"])
                    book.write({"step": number, "steps_per_second": round(speed, 2), **row})
                if number % config.save_every == 0 or last:
                    book.check()
                    logbook.require_finite(state)
                    checkpoint.save(checkpoints, state)
                if stop and number < config.steps:
                    checkpoint.wait_until_saved(checkpoints)
                    raise Interrupted(f"stopped at step {number}, saved in {checkpoints.directory}")
    except NonFinite as error:
        checkpoint.wait_until_saved(checkpoints)
        newest = checkpoints.latest_step()
        good = "none yet" if newest is None else checkpoints.directory / str(newest)
        raise NonFinite(f"{error}; newest good checkpoint: {good}; lower --optimizer.learning-rate") from None
    finally:
        book.close()
    checkpoint.wait_until_saved(checkpoints)
    return state


def _bytes_needed(abstract: trainer.TrainState) -> int:
    """Three checkpoints (two kept, one being written), and room for samples and pictures."""
    return 3 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(abstract)) + 50_000_000


# Sample ---------------------------------------------------------------------------------------


def _sample(experiment, folder, params, mesh, stamp, signals) -> None:
    """Every sampler's samples into samples.npz, and how long they took, unless they are there."""
    path, config = folder / "samples.npz", experiment.config
    if workdir.read_samples(path)[1] == stamp:
        return
    root = jax.random.fold_in(jax.random.key(config.seed), SAMPLE)
    samples, seconds = {}, {}
    for name, sampler in experiment.samplers.items():
        jitted = jax.jit(sampler, compiler_options=experiment.compiler_options)
        compiled, batch, compile_seconds = compile_sampler(jitted, params, config, mesh)
        begin, parts = time.monotonic(), []
        for start in console.in_turn(range(0, config.samples, batch), f"sample by {name}"):
            if signals.received:
                raise Interrupted("stopped while sampling")
            keys = jax.device_put(noise.row_keys(root, batch, start=start), sharding.batched(mesh))
            parts.append(jax.device_get(compiled(params, keys)))
        drawn = jax.tree.map(lambda *rows: np.concatenate(rows)[: config.samples], *parts)
        samples |= {name: drawn} if not isinstance(drawn, dict) else drawn
        seconds[name] = {"seconds": time.monotonic() - begin, "compile_seconds": compile_seconds}
        console.say(f"{config.samples} samples by {name} in {seconds[name]['seconds']:.1f} s")
    workdir.write_json(folder / "sampling.json", seconds)
    workdir.write_samples(path, samples, stamp)


def compile_sampler(jitted, params, config: Config, mesh) -> tuple[Callable, int, float]:
    """The compiled sampler, for how many rows, and the seconds that compiling took."""
    wanted = min(config.sample_batch, config.samples)
    batch = -(-wanted // mesh.size) * mesh.size  # rounded up to the devices; the rest is cut off
    keys = jax.device_put(noise.row_keys(jax.random.key(0), batch), sharding.batched(mesh))
    begin = time.monotonic()
    compiled = jitted.lower(params, keys).compile()
    return compiled, batch, time.monotonic() - begin


# Evaluate -------------------------------------------------------------------------------------


def _evaluate(experiment, folder, params, stamp) -> dict[str, Any]:
    """metrics.json, the table and the pictures, made again only if they are out of date."""
    path, report = folder / "metrics.json", folder / "report"
    found = workdir.read_json(path)
    pictures = sorted(report.glob("*.png"))
    if found is None or found.get("stamp") != stamp or not pictures:
        samples, made_from = workdir.read_samples(folder / "samples.npz")
        if made_from != stamp:
            raise Refusal(f"--mode evaluate: {folder} has no samples of its newest checkpoint; sample first")
        metrics = experiment.evaluate(params, samples)
        report.mkdir(exist_ok=True)
        pictures = experiment.report(params, samples, logbook.read(folder / "metrics.jsonl"), report)
        sampling = workdir.read_json(folder / "sampling.json")
        found = {**metrics, "sampling": sampling, "stamp": stamp}
        workdir.write_json(path, found)
    console.say("\n" + console.table(experiment.table(found)) + "\n")
    for picture in pictures:
        console.say(f"picture: {picture}")
    return found

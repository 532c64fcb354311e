"""From flags to a finished run: parse, build, train, sample, evaluate, report.

An experiment is a frozen dataclass of flags, whose defaults are the recipe, and `build(config) ->
Experiment`. `main` parses flags and exits with a status. `run` does the work; tests and notebooks call
it:

    run(build(Flowers(steps=200)), "runs/flowers")

Training goes on in train.py, sampling in sample.py, evaluation in evaluate.py; the three jits are in
programs.py.
"""

import contextlib
import io
import logging
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxscore import checkpoint
from jaxscore.checkpoint import CheckpointError
from jaxscore.data import DataError
from jaxscore.launch import (
    console,
    evaluate,
    export,
    fid,
    flags,
    page,
    processes,
    programs,
    provenance,
    rehearsal,
    sample,
    train,
    validation,
    workdir,
)
from jaxscore.launch.config import Config
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.metrics_log import NonFinite
from jaxscore.launch.signals import Interrupted, Signals
from jaxscore.launch.workdir import Refusal

# Simulated CPU devices hang with too few threads, and one device is slowed down by too many. The
# client reads this when it starts.
_simulated = re.search(r"xla_force_host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", ""))
if _simulated:
    os.environ.setdefault("NPROC", str(max(2 * int(_simulated[1]), os.cpu_count() or 1)))

INTERRUPTED = "interrupted; what had been saved before is kept"

MODES = ("train", "sample", "evaluate")


def main(build: Callable[[Any], Experiment], defaults: Config) -> None:
    """Parses flags, builds and runs. Bad input is one line on standard error and exit status 2."""
    with one_line_errors():
        config = flags.parse(defaults)
        with running(config):
            run(build(config), config.workdir, mode=config.mode, recipe=defaults)


def program(run: Callable[[Any], Any], defaults: Any, *, folder: str = "workdir") -> None:
    """Parses flags and calls `run(config)`: the main function of a program that is no `Experiment`.

    Bad input is one line on standard error and exit status 2. An error of the operating system without a
    file name is attributed to the path in the configuration's field `folder`.
    """
    with one_line_errors():
        config = flags.parse(defaults)
        with one_line_errors(getattr(config, folder, None)):
            run(config)


@contextlib.contextmanager
def running(config: Config) -> Iterator[None]:
    """Within, this process has joined the other processes of the run, and errors are one line."""
    with processes.joined(config.distributed, config.heartbeat), one_line_errors(config.workdir), _ended():
        _require_platform()
        yield


def _require_platform() -> None:
    """Raises Refusal if JAX cannot use the platform that the variable JAX_PLATFORMS names."""
    asked = os.environ.get("JAX_PLATFORMS")
    try:
        if asked:
            jax.devices()
    except Exception as error:  # the type, and whether there is a text, differ between releases
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise Refusal(f"JAX_PLATFORMS={asked}: not available here ({reason}); set it to cpu") from None


@contextlib.contextmanager
def _ended() -> Iterator[None]:
    """Within, a Ctrl-C that nobody else handles ends the process without the interpreter's usual end.

    During the usual end, threads of XLA's compiler may still be at work, and crash.
    """

    def end(number, frame):
        console.complain(INTERRUPTED)
        os._exit(130)

    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if usual and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is end:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def one_line_errors(folder: Path | None = None) -> Iterator[None]:
    """Within, an error becomes one line on standard error, and the process exits.

    The status is 2 for bad input, absent data and a full disk. It is 0 after a signal that the run has
    handled, so that it can resume, and 130 after any other interruption. An error of the operating system
    that names no file is reported with the folder.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a path may have letters that the terminal lacks
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = lambda message, *where, **rest: f"warning: {message}\n"
    # Orbax logs whole tracebacks of what it also raises, and of what is then one line here.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    except (flags.FlagError, Refusal, DataError, CheckpointError, NonFinite) as error:
        console.complain(str(error))
        raise SystemExit(2) from None
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        remedy = "give a smaller --batch or --sample-batch, more --microbatches, or --remat"
        console.complain(f"the memory does not suffice ({str(error).partition(chr(10))[0]}): {remedy}")
        raise SystemExit(2) from None
    except BrokenPipeError:  # the reader of the output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        console.complain(f"{error.filename or folder}: {error.strerror or error}")
        raise SystemExit(2) from None
    except Interrupted as interruption:
        console.say(f"{interruption}; run again to go on from there")
    except KeyboardInterrupt:  # before the run listens for signals, or a second one
        console.complain(INTERRUPTED)
        raise SystemExit(130) from None


def run(
    experiment: Experiment, folder: Path | str, *, mode: str = "all", recipe: Config | None = None
) -> dict[str, Any]:
    """Trains, samples, evaluates and reports in the folder; returns the metrics, a `page.Results`.

    A notebook shows them as the table and the pictures; `.pictures` has the paths. Skips stages that an
    earlier run in this folder has completed. The page report/index.html is written at
    the end, also after an error. It says which flags differ from the recipe, by default from the defaults of
    the configuration's class.

    Raises FlagError for an invalid flag, Refusal if the folder cannot be used, CheckpointError, NonFinite,
    and Interrupted after a signal.
    """
    folder, config = Path(folder), experiment.config
    for name in ("experiment", workdir.DATA, workdir.VERSION, workdir.OTHER_DATA):  # entries of config.json
        if hasattr(config, name):
            raise TypeError(f"{type(config).__name__}.{name}: rename this field; the launcher uses its name")
    modes, mesh = MODES if mode == "all" else (mode,), programs.mesh_of(config)
    abstract = programs.abstract_state(experiment, mesh)
    description = provenance.describe(experiment, folder)
    export.require_images(experiment, mesh)
    if "train" in modes or "evaluate" in modes:  # before training, which may take days
        processes.on_first(lambda: fid.require_inputs(experiment, mesh))
    with contextlib.ExitStack() as stack:
        needed = programs.bytes_needed(abstract, config) if "train" in modes else 0
        changed = processes.on_first(lambda: _take_over(folder, description, needed, modes, stack))
        signals = stack.enter_context(Signals())
        checkpoints = stack.enter_context(
            checkpoint.manager(
                folder / "checkpoints", keep=config.keep, best=config.keep_best, every=config.keep_every
            )
        )
        state = _restore(folder, checkpoints, abstract, changed)
        _refuse_impossible(folder, config, state, modes)
        rehearse = None
        if mode == "all" and (state is None or state.step < config.steps):
            rehearse = partial(rehearsal.rehearse, experiment, mesh, sample.shapes(experiment, mesh))
        description = _account(folder, description, changed, state, "train" in modes, config.steps)
        if jax.process_index() == 0:
            provenance.record(folder, description, config, recipe, 0 if state is None else int(state.step))
            stack.callback(page.write, folder)
        if "train" in modes:
            state = train.train(experiment, folder, state, mesh, checkpoints, signals, description, rehearse)
        if mode == "train":
            return {}
        state = validation.best(experiment, checkpoints, abstract, state)
        stamp = workdir.stamp(description, int(state.step))
        params = programs.sampled(experiment, state.ema, mesh)
        if "sample" in modes:
            sample.sample(experiment, folder, params, mesh, stamp, signals)
        if "evaluate" not in modes:
            return {}
        params = programs.whole(params, mesh)
        evaluated = lambda: evaluate.evaluate(experiment, folder, params, stamp, signals)
        return page.Results(folder, processes.on_first(evaluated))


def _take_over(folder: Path, description, needed: int, modes, stack: contextlib.ExitStack) -> list[str]:
    """Claims the folder and locks it until the stack ends; returns what has changed in the configuration."""
    if "train" not in modes and not (folder / "checkpoints").is_dir():
        raise Refusal(f"--mode {modes[0]}: no checkpoint in {folder}; train first")
    changed = workdir.claim(folder, description, needed)
    stack.enter_context(workdir.locked(folder))
    return changed


def _account(folder: Path, description, changed: list[str], state, trains: bool, steps: int):
    """Says what has changed since the earlier run; returns the description, with the steps on other data.

    Raises Refusal if the run was trained on other data, and has no steps left for these; or with another
    value of a flag in FIXED.
    """
    if changed:
        console.say(f"the configuration has changed: {'; '.join(changed)}")
    before = workdir.read_json(folder / "config.json")
    for change in changed if state is not None else ():
        name = change.split(":")[0]
        if name in provenance.FIXED:
            flag = name.replace("_", "-")
            remedy = f"{provenance.FIXED[name]}; give the value of its config.json"
            raise Refusal(f"--{flag}: {folder} was trained with another ({change}); {remedy}")
    until = before.get(workdir.OTHER_DATA, 0) if isinstance(before, dict) else 0
    if state is not None and any(change.startswith(workdir.DATA) for change in changed):
        until = int(state.step)
        if trains and until == steps:
            remedy = "name another --workdir, or more --steps to go on with these data"
            raise Refusal(f"--workdir {folder}: its {until} steps were trained on other data; {remedy}")
    if until:
        remedy = "to train on these data alone, name another --workdir"
        console.say(f"this run was trained on other data up to step {until}; {remedy}")
    return description | ({workdir.OTHER_DATA: until} if until else {})


def _restore(folder: Path, checkpoints, abstract, changed: list[str]):
    """Returns the newest intact state, or None. All processes restore the step that the first one chooses."""
    try:
        step = processes.on_first(lambda: checkpoint.newest_good(checkpoints, tell=console.say))
        return None if step is None else checkpoint.restore(checkpoints, step, abstract)
    except CheckpointError as error:
        if not changed:
            raise
        remedy = "name another --workdir, or use the flags in its config.json"
        raise CheckpointError(f"{error} (since changed: {'; '.join(changed)}); {remedy}") from None


def _refuse_impossible(folder: Path, config: Config, state, modes) -> None:
    if "train" not in modes and state is None:
        raise Refusal(f"--mode {modes[0]}: no checkpoint in {folder}; train first")
    if "train" in modes and state is not None and int(state.step) > config.steps:
        raise Refusal(
            f"--steps {config.steps}: {folder} has been trained for {int(state.step)} steps; "
            "ask for as many, or name another --workdir"
        )

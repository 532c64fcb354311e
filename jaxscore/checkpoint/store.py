"""Saves in the background: Orbax writes the arrays, `integrity` their checksums.

>>> import tempfile, jax, jax.numpy as jnp, optax
>>> from jaxscore import trainer
>>> state = trainer.init_state(jax.random.key(0), lambda key: jnp.ones(3), optax.sgd(0.1))
>>> with manager(tempfile.mkdtemp(), keep=1) as checkpoints:
...     for step in range(3):
...         save(checkpoints, state._replace(step=jnp.int32(step)))
...     wait_until_saved(checkpoints)
...     sorted(path.name for path in checkpoints.directory.iterdir())
['2', '2.sums.json']
"""

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from jaxscore.checkpoint import integrity
from jaxscore.checkpoint.integrity import CheckpointError
from jaxscore.trainer import TrainState

WRITE_ERRORS = (OSError, ValueError, RuntimeError)


class Checkpoints(NamedTuple):
    """An open directory of checkpoints, made by `manager`."""

    directory: Path
    orbax: ocp.CheckpointManager
    metrics: dict[int, float | None]
    """Metric of each saved step; None if the step was saved without a metric."""
    writing: list[int]
    """Step that is being saved in the background, if any."""
    begun: list[Future]
    """Future that completes when Orbax has copied the arrays; Orbax writes them afterwards."""
    worker: ThreadPoolExecutor
    """One thread that calls Orbax and waits for it: Orbax reports a failure once to each thread."""
    read_only: bool


class Retention(NamedTuple):
    """Which steps are kept: the newest, the best, and every multiple of `every` (Orbax asks it)."""

    keep: int | None
    best: int
    every: int | None
    metrics: dict[int, float | None]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Whether each of the checkpoints, the oldest first, is kept."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        if self.keep is None:
            return [True] * len(steps)
        rated = [step for step in steps if self.metrics.get(step) is not None]
        best = sorted(rated, key=lambda step: (self.metrics[step], -step))[: self.best]
        kept = {*steps[-self.keep :], *best}
        return [step in kept or (self.every is not None and step % self.every == 0) for step in steps]


@contextlib.contextmanager
def manager(
    directory: str | Path,
    *,
    keep: int | None = 2,
    best: int = 0,
    every: int | None = None,
    read_only: bool = False,
) -> Iterator[Checkpoints]:
    """Opens (and creates) a directory of checkpoints; on leaving, waits for the save in the background.

    Removes the files of interrupted saves, so only one run may have a directory open, plus read-only readers.

    Args:
        keep: number of newest steps that are kept; None keeps all.
        best: number of steps with the lowest metric that are kept too.
        every: multiples of this number are never removed.

    Raises ValueError if a number is too small, CheckpointError if the directory or a save cannot be written.
    """
    for name, value, least in (("keep", keep, 1), ("best", best, 0), ("every", every, 1)):
        if value is not None and value < least:
            raise ValueError(f"{name} = {value} must be at least {least}")
    directory, metrics = Path(directory).absolute(), {}
    if directory.exists() and not directory.is_dir():
        raise CheckpointError(f"{directory} is a file, not a folder of checkpoints")
    first = jax.process_index() == 0 and not read_only
    try:
        if first:
            integrity.remove_unfinished(directory)
        metrics |= {step: integrity.metric(directory, step) for step in integrity.steps(directory)}
        retention = Retention(keep, best, every, metrics)
        orbax = _open(directory, retention, lambda: _seal(checkpoints), read_only)
    except WRITE_ERRORS as error:
        raise _unwritable(directory, error) from error
    checkpoints = Checkpoints(directory, orbax, metrics, [], [], ThreadPoolExecutor(1), read_only)
    try:
        yield checkpoints
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to report
            _close(checkpoints)
        raise
    _close(checkpoints)


def _open(directory: Path, retention: Retention, seal: Callable[[], None], read_only: bool):
    asynchronous = ocp.options.AsyncOptions(
        post_finalization_callback=seal,
        # Measured on the wall clock, which may jump by more than Orbax's default of 20 minutes.
        timeout_secs=30 * 86_400,
        # Otherwise threads wait for minutes for a directory that cannot be made.
        create_directories_asynchronously=False,
    )
    with quiet():
        return ocp.CheckpointManager(
            directory,
            item_handlers={"state": ocp.StandardCheckpointHandler(), "about": ocp.JsonCheckpointHandler()},
            options=ocp.CheckpointManagerOptions(
                preservation_policy=retention,
                async_options=asynchronous,
                create=not read_only,
                read_only=read_only,
            ),
        )


def _seal(checkpoints: Checkpoints) -> None:
    """Writes the checksums. Orbax calls this in the background, in the first process, before it commits."""
    (step,) = checkpoints.writing
    folder = checkpoints.directory / f"{step}{integrity.UNFINISHED}"
    integrity.write_sums(checkpoints.directory, step, folder, metric=checkpoints.metrics[step])


def _close(checkpoints: Checkpoints) -> None:
    try:
        wait_until_saved(checkpoints)
    finally:
        checkpoints.worker.shutdown()
        with unwritable_is_an_error(checkpoints.directory):
            checkpoints.orbax.close()


# Save -----------------------------------------------------------------------------------------


def save(
    checkpoints: Checkpoints,
    state: TrainState,
    *,
    metric: float | None = None,
    about: Any = None,
    wait: bool = False,
) -> None:
    """Saves the state under its step number, in the background unless `wait`, if that step is not there yet.

    Copies the arrays first, so the caller may donate the state at once. `manager(best=...)` prefers steps
    with the lowest `metric`; `about` is a JSON value stored with the state. Raises ValueError if the metric
    is not finite, CheckpointError if a newer step exists or a save fails.
    """
    write(checkpoints, int(state.step), state, metric=metric, about=about)
    if wait:
        wait_until_saved(checkpoints)


def write(checkpoints: Checkpoints, step: int, tree: Any, *, metric=None, about=None) -> None:
    """`save` for any tree of arrays."""
    if metric is not None and not math.isfinite(metric):
        raise ValueError(f"metric = {metric} must be finite")
    wait_until_saved(checkpoints)
    newest = newest_step(checkpoints)
    if step in checkpoints.orbax.all_steps():
        return
    if newest is not None and step < newest:
        raise CheckpointError(f"step {step} is not saved: step {newest} is already there")
    checkpoints.metrics[step] = None if metric is None else float(metric)
    items = {"state": ocp.args.StandardSave(_copied(tree))}
    if about is not None:
        items["about"] = ocp.args.JsonSave(about)

    def begin() -> None:
        if not checkpoints.orbax.save(step, args=ocp.args.Composite(**items)):
            raise CheckpointError(f"step {step} is not saved: Orbax refuses it")

    checkpoints.writing.append(step)
    if jax.process_count() == 1:
        # Orbax takes about 0.4 ms for each array before it returns, so another thread calls it.
        checkpoints.begun.append(checkpoints.worker.submit(begin))
        return
    with unwritable_is_an_error(checkpoints.directory):  # all processes must save in step
        begin()


def _copied(tree: Any) -> Any:
    """Copies of the arrays, on their devices: the caller may donate the originals."""
    return jax.device_put(tree, jax.tree.map(lambda leaf: leaf.sharding, tree), may_alias=False)


def wait_until_saved(checkpoints: Checkpoints) -> None:
    """Waits for the save in the background. Raises CheckpointError if it failed."""
    with unwritable_is_an_error(checkpoints.directory):
        try:
            for begun in checkpoints.begun:
                begun.result()
            if jax.process_count() == 1:
                checkpoints.worker.submit(checkpoints.orbax.wait_until_finished).result()
            else:
                checkpoints.orbax.wait_until_finished()
            checkpoints.orbax.check_for_errors()
            if checkpoints.writing and jax.process_index() == 0:
                integrity.complete(checkpoints.directory, checkpoints.writing[0])
                integrity.remove_orphans(checkpoints.directory)
        finally:
            checkpoints.writing.clear()
            checkpoints.begun.clear()


def newest_step(checkpoints: Checkpoints) -> int | None:
    """Newest step that is saved or being saved; None if there is none."""
    return checkpoints.orbax.latest_step()


@contextlib.contextmanager
def unwritable_is_an_error(directory: Path) -> Iterator[None]:
    """Turns errors of writing into a CheckpointError that names the directory."""
    try:
        yield
    except WRITE_ERRORS as error:
        raise _unwritable(directory, error) from error


def _unwritable(directory: Path, error: Exception) -> CheckpointError:
    full = "No space left" in str(error)
    reason = "no disk space; make room and run again" if full else one_line(error)
    return CheckpointError(f"cannot save in {directory}: {reason}")


def one_line(error: Exception) -> str:
    """Text of the error in one line of at most 300 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:300]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppresses the tracebacks that Orbax logs for errors that it also raises."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)

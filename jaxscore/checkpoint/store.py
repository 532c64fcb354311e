"""Saves, in the background: Orbax writes the arrays, `integrity` their checksums.

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
    """An open directory of checkpoints; `manager` makes it."""

    directory: Path
    orbax: ocp.CheckpointManager
    metrics: dict[int, float | None]
    """Of every step that has been saved with one."""
    writing: list[int]
    """The step that is being saved in the background, if there is one."""
    begun: list[Future]
    """Of handing its arrays to Orbax, which then goes on by itself."""
    worker: ThreadPoolExecutor
    """The one thread that has Orbax save and waits for it, for Orbax tells each thread of a failure once."""
    read_only: bool


class Retention(NamedTuple):
    """Which steps are kept: the newest, the best, and every so many for ever (Orbax asks it)."""

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
    """Opens (and makes) a directory of checkpoints; leaving it waits for saves that are being written.

    Kept are the newest `keep` (all of them if it is None), the `best` with the lowest metric, and for
    ever each whose step is a multiple of `every`. What an interrupted run left unfinished is removed:
    only one run may have a directory open, but for `read_only` ones, which change nothing in it.
    Raises ValueError if keep < 1, best < 0 or every < 1, CheckpointError if there can be no such
    directory, and at the end if a save could not be written.
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
        with contextlib.suppress(Exception):  # what happened first is what is told
            _close(checkpoints)
        raise
    _close(checkpoints)


def _open(directory: Path, retention: Retention, seal: Callable[[], None], read_only: bool):
    asynchronous = ocp.options.AsyncOptions(
        post_finalization_callback=seal,
        # By the wall clock, which may jump; Orbax's 20 minutes are less than a time zone.
        timeout_secs=30 * 86_400,
        # Else what cannot be made is waited for by threads that outlive the error, for minutes.
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
    """Write the checksums; called by Orbax in the background, in the first process, before it commits."""
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
    """Save the state under its step number, in the background unless `wait`.

    `metric` is what `manager(best=...)` goes by, the lowest being best; `about` is a JSON value that is
    stored beside the state. The arrays are copied, on their devices until they are written: the state may
    be donated to the next step at once. A step that is already there is not written again. Raises
    CheckpointError if it, or the unfinished save before it, cannot be written, ValueError if the metric is
    not finite.
    """
    write(checkpoints, int(state.step), state, metric=metric, about=about)
    if wait:
        wait_until_saved(checkpoints)


def write(checkpoints: Checkpoints, step: int, tree: Any, *, metric=None, about=None) -> None:
    """`save` of any tree of arrays."""
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
        # Orbax takes about 0.4 ms for each array before it lets go; in a thread nobody waits for that.
        checkpoints.begun.append(checkpoints.worker.submit(begin))
        return
    with unwritable_is_an_error(checkpoints.directory):  # processes that save together stay in step
        begin()


def _copied(tree: Any) -> Any:
    """The arrays once more, on their devices: the caller may donate his to the next step."""
    return jax.device_put(tree, jax.tree.map(lambda leaf: leaf.sharding, tree), may_alias=False)


def wait_until_saved(checkpoints: Checkpoints) -> None:
    """Wait for the save in the background. Raises CheckpointError if it failed."""
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
    """The newest step that is there, or that is being saved; None if there is none."""
    return checkpoints.orbax.latest_step()


@contextlib.contextmanager
def unwritable_is_an_error(directory: Path) -> Iterator[None]:
    """What cannot be written within is a CheckpointError that names the directory."""
    try:
        yield
    except WRITE_ERRORS as error:
        raise _unwritable(directory, error) from error


def _unwritable(directory: Path, error: Exception) -> CheckpointError:
    full = "No space left" in str(error)
    reason = "no disk space; make room and run again" if full else one_line(error)
    return CheckpointError(f"cannot save in {directory}: {reason}")


def one_line(error: Exception) -> str:
    """The error's text without its line breaks, and not all of it if it is very long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:300]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the tracebacks that Orbax logs of what it also raises."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)

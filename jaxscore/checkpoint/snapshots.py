"""Snapshots: the parameter averages that training carries, saved at regular steps and never deleted.

Averages of any other width are combinations of snapshots (`ema.posthoc_weights`). They are combined one after
another, so that only one snapshot is in memory at a time:

    with snapshots(directory, read_only=True) as kept:
        steps = good_snapshots(kept)
        shape = abstract_snapshot(params, 2)
        averages = (average for step in steps for average in restore(kept, step, shape).profiles)
        params = ema.combine(averages, weights)

>>> import tempfile, jax, jax.numpy as jnp, optax
>>> from jaxscore import trainer
>>> begin = lambda key: jnp.ones(3)
>>> state = trainer.init_state(jax.random.key(0), begin, optax.sgd(0.1), profiles=2)
>>> with snapshots(tempfile.mkdtemp()) as kept:
...     for step in (10, 20, 30):
...         save_snapshot(kept, state._replace(step=jnp.int32(step)))
...     forget_after(kept, 20)
...     good_snapshots(kept)
[10, 20]
"""

import contextlib
import shutil
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jaxtyping import Int

from jaxscore.checkpoint import integrity
from jaxscore.checkpoint.integrity import CheckpointError
from jaxscore.checkpoint.restoring import Tell, set_aside
from jaxscore.checkpoint.store import (
    Checkpoints,
    manager,
    unwritable_is_an_error,
    wait_until_saved,
    write,
)
from jaxscore.trainer import TrainState
from jaxscore.types import Array, Params


class Snapshot(NamedTuple):
    """The part of a training state that a snapshot stores: the step and the averages."""

    step: Int[Array, ""] | jax.ShapeDtypeStruct
    profiles: tuple[Params, ...]


def snapshots(directory: str | Path, *, read_only: bool = False) -> contextlib.AbstractContextManager:
    """Opens (and creates) a directory of snapshots: a `manager` that keeps every step."""
    return manager(directory, keep=None, read_only=read_only)


def save_snapshot(kept: Checkpoints, state: TrainState, *, about: Any = None) -> None:
    """Saves state.profiles under the step's number, in the background.

    A step that is already there is not written again.

    Raises:
        ValueError: if the state carries no profiles.
        CheckpointError: if this snapshot, or the unfinished one before it, cannot be written.
    """
    if not state.profiles:
        raise ValueError("the state has no profiles to keep: init_state(..., profiles=2)")
    write(kept, int(state.step), Snapshot(state.step, state.profiles), about=about)


def abstract_snapshot(params: Params, profiles: int) -> Snapshot:
    """Argument `abstract` of `restore` for a snapshot of averages of these parameters, or of their shapes."""
    step = jax.ShapeDtypeStruct((), "int32")
    return Snapshot(step, (params,) * profiles)


def good_snapshots(kept: Checkpoints, *, tell: Tell | None = None) -> list[int]:
    """Steps of the snapshots whose files are all as they were written, the oldest first.

    Moves damaged snapshots into the folder `<directory>-damaged` beside the directory, unless the directory
    is open read-only. Calls `tell`, by default a warning, with one line for each of them.

    Raises:
        CheckpointError: if there are snapshots and none is intact.
    """
    wait_until_saved(kept)
    found = {step: integrity.flaw(kept.directory, step) for step in sorted(integrity.steps(kept.directory))}
    damaged = {step: reason for step, reason in found.items() if reason is not None}
    good = [step for step in found if step not in damaged]
    if damaged and not good:
        step, reason = next(iter(damaged.items()))
        raise CheckpointError(f"no snapshot in {kept.directory} is good: {step}: {reason}")
    set_aside(kept, damaged, tell or warnings.warn)
    return good


def forget_after(kept: Checkpoints, step: int) -> None:
    """Removes the snapshots of later steps, because a run that resumes at `step` makes them again.

    The new snapshots may differ, since the configuration may have changed. All processes call this function;
    the first one removes.
    """
    wait_until_saved(kept)
    with unwritable_is_an_error(kept.directory):
        for later in integrity.steps(kept.directory):
            if later > step and jax.process_index() == 0:
                path = kept.directory / str(later)
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                (kept.directory / f"{later}{integrity.SUMS}").unlink(missing_ok=True)
    kept.orbax.reload()

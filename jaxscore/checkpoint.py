"""Checkpoints with Orbax: asynchronous saves, and restores that say what does not fit.

    with manager(directory) as checkpoints:
        state = restore_latest(checkpoints, jax.eval_shape(lambda: state)) or state
        save(checkpoints, state)

Only arrays are stored: no pickled code, no key, no data iterator. Keys and data are functions of
state.step.
"""

from pathlib import Path

import jax
import orbax.checkpoint as ocp

from jaxscore.trainer import TrainState


class CheckpointError(Exception):
    """A checkpoint that could not be written, read, or fitted to the network; the text says which."""


def manager(
    directory: str | Path, *, keep: int = 2, best: int = 0, every: int | None = None
) -> ocp.CheckpointManager:
    """Opens (and makes) a directory of checkpoints, of which the newest `keep` are kept.

    A context manager: leaving it waits for saves that are still being written. Unfinished saves of
    an interrupted run are ignored.
    """
    return ocp.CheckpointManager(
        Path(directory).absolute(),
        item_handlers={"state": ocp.StandardCheckpointHandler()},
        options=ocp.CheckpointManagerOptions(max_to_keep=keep),
    )


def save(
    checkpoints: ocp.CheckpointManager, state: TrainState, *, metric=None, about=None, wait: bool = False
) -> None:
    """Save the state under its step number, in the background unless `wait`.

    The arrays are copied before it returns: the state may be donated to the next step at once. A
    step that is already there is not written again. Raises CheckpointError if it, or the
    unfinished save before it, cannot be written.
    """
    step = int(state.step)
    try:
        if step not in checkpoints.all_steps():
            saved = checkpoints.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state)))
            if not saved:
                newest = checkpoints.latest_step()
                raise CheckpointError(f"step {step} is not saved: step {newest} is already there")
        if wait:
            wait_until_saved(checkpoints)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unwritable(checkpoints, error) from error


def wait_until_saved(checkpoints: ocp.CheckpointManager) -> None:
    """Wait for the save in the background. Raises CheckpointError if it failed."""
    try:
        checkpoints.wait_until_finished()
        checkpoints.check_for_errors()
    except (OSError, ValueError, RuntimeError) as error:
        raise _unwritable(checkpoints, error) from error


def newest_good(checkpoints, *, tell=None):
    """The newest step."""
    return checkpoints.latest_step()


def restore(checkpoints, step, abstract):
    """That step's state."""
    checkpoints.reload()
    return restore_latest(checkpoints, abstract)


def restore_latest(checkpoints: ocp.CheckpointManager, abstract: TrainState) -> TrainState | None:
    """The newest state, placed as `abstract` says (shapes, dtypes, shardings); None if there is none.

    Raises CheckpointError if a parameter is missing, left over, or of another shape or dtype (it
    names the first one), or if the files cannot be read.
    """
    step = checkpoints.latest_step()
    if step is None:
        return None
    path = checkpoints.directory / str(step)
    try:
        stored = checkpoints.item_metadata(step)["state"].tree
        difference = _first_difference(stored, abstract)
        if difference is None:
            args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
            return checkpoints.restore(step, args=args)["state"]
    except Exception as error:  # Orbax raises many types for files that are damaged or missing
        raise CheckpointError(f"checkpoint {path} cannot be read: {_one_line(error)}") from error
    raise CheckpointError(f"checkpoint {path} is of another network: {difference}")


def _first_difference(stored, abstract) -> str | None:
    """What the first parameter (in alphabetical order) is that does not fit, if there is one."""
    have, want = _leaves(stored), _leaves(abstract)
    for name in sorted(have.keys() | want.keys()):
        if name not in have:
            return f"{name} is missing"
        if name not in want:
            return f"{name} is left over"
        if have[name] != want[name]:
            return f"{name} is {_describe(have[name])}, here it is {_describe(want[name])}"
    return None


def _leaves(tree) -> dict[str, tuple]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    return {name(path): (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in leaves}


def _describe(shape_and_dtype: tuple) -> str:
    shape, dtype = shape_and_dtype
    return f"{dtype}[{', '.join(map(str, shape))}]"


def _unwritable(checkpoints: ocp.CheckpointManager, error: Exception) -> CheckpointError:
    full = "No space left" in str(error)
    reason = "no disk space; make room and run again" if full else _one_line(error)
    return CheckpointError(f"cannot save in {checkpoints.directory}: {reason}")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:300]

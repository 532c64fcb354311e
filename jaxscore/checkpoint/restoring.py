"""Restores the newest intact step, into the shapes and shardings asked for.

>>> import tempfile, jax, jax.numpy as jnp, optax
>>> from jaxscore import trainer
>>> from jaxscore.checkpoint.store import manager, save
>>> state = trainer.init_state(jax.random.key(0), lambda key: jnp.ones(3), optax.sgd(0.1))
>>> with manager(tempfile.mkdtemp()) as checkpoints:
...     save(checkpoints, state, about={"recipe": "none"}, wait=True)
...     restored = restore_latest(checkpoints, jax.eval_shape(lambda: state))
...     print(restored.params, about(checkpoints, 0))
[1. 1. 1.] {'recipe': 'none'}
"""

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp

from jaxscore.checkpoint import integrity
from jaxscore.checkpoint.integrity import CheckpointError
from jaxscore.checkpoint.store import Checkpoints, one_line, quiet, unwritable_is_an_error
from jaxscore.trainer import TrainState

Tree = TypeVar("Tree")
Tell = Callable[[str], None]


def restore_latest(
    checkpoints: Checkpoints, abstract: TrainState, *, tell: Tell | None = None
) -> TrainState | None:
    """State of the newest intact step, or None if there is no step; for runs of one process.

    Args:
        checkpoints: open directory of checkpoints.
        abstract: shapes, dtypes and shardings of the state, as for `restore`.
        tell: called with a line for each damaged step, as for `newest_good`.

    Raises:
        CheckpointError: as `newest_good` and `restore` do.
    """
    step = newest_good(checkpoints, tell=tell)
    return None if step is None else restore(checkpoints, step, abstract)


def newest_good(checkpoints: Checkpoints, *, tell: Tell | None = None) -> int | None:
    """Newest step whose files are all as they were written; None if there is no step at all.

    Moves damaged steps that are newer into the folder `<directory>-damaged` beside the directory, unless the
    directory is open read-only. Calls `tell`, by default a warning, with one line for each of them. In a run
    of several processes only the first process calls this function.

    Raises:
        CheckpointError: if there are steps and none is intact; nothing is moved then, and training cannot
            start again at step 0 by mistake.
    """
    tell, directory, damaged = tell or warnings.warn, checkpoints.directory, {}
    for step in integrity.steps(directory):
        reason = integrity.flaw(directory, step)
        if reason is None:
            break
        damaged[step] = reason
    else:
        if damaged:
            newest, others = next(iter(damaged)), len(damaged) - 1
            more = f" (and {others} more)" if others else ""
            remedy = "move the folder away to start anew"
            text = f"no checkpoint in {directory} is good: {newest}: {damaged[newest]}{more}; {remedy}"
            raise CheckpointError(text)
        return None
    set_aside(checkpoints, damaged, tell)
    return step


def best_good(checkpoints: Checkpoints) -> int | None:
    """Step with the lowest metric among the intact steps, the newest of equals; None if there is none.

    Steps that were saved without a metric do not count. In a run of several processes only the first process
    calls this function.
    """
    directory = checkpoints.directory
    rated = [(integrity.metric(directory, step), -step) for step in integrity.steps(directory)]
    ordered = sorted(pair for pair in rated if pair[0] is not None)
    return next((-step for _, step in ordered if integrity.flaw(directory, -step) is None), None)


def set_aside(checkpoints: Checkpoints, damaged: dict[int, str], tell: Tell) -> None:
    """Moves damaged steps aside, tells why for each, and has Orbax read the directory again."""
    directory = checkpoints.directory
    for step, reason in damaged.items():
        line = f"checkpoint {directory / str(step)} is damaged: {reason}"
        if checkpoints.read_only:
            tell(line)
            continue
        with unwritable_is_an_error(directory):
            tell(f"{line}; moved to {integrity.set_aside(directory, step)}")
    checkpoints.orbax.reload()


def restore(checkpoints: Checkpoints, step: int, abstract: Tree) -> Tree:
    """Arrays of a step, placed as `abstract` says. All processes call this function.

    Args:
        checkpoints: open directory of checkpoints.
        step: number of the step.
        abstract: tree of shapes, dtypes and shardings; the shardings may differ from those of the save.

    Raises:
        CheckpointError: if a parameter is missing, left over, or has another shape or dtype; the message
            names the first such parameter.
        CheckpointError: if the files cannot be read.
    """
    path = checkpoints.directory / str(step)
    try:
        with quiet():
            checkpoints.orbax.reload()  # another process may have moved damaged steps
            stored = checkpoints.orbax.item_metadata(step)["state"].tree
            difference = _first_difference(stored, abstract)
            if difference is None:
                args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
                return checkpoints.orbax.restore(step, args=args)["state"]
    except Exception as error:  # Orbax raises many types for damaged or missing files
        raise CheckpointError(f"checkpoint {path} cannot be read: {one_line(error)}") from error
    raise CheckpointError(f"checkpoint {path} is of another network: {difference}")


def about(checkpoints: Checkpoints, step: int) -> Any:
    """JSON value that was saved with a step; None if there was none.

    Raises:
        CheckpointError: if it cannot be read.
    """
    if not (checkpoints.directory / str(step) / "about").is_dir():
        return None
    try:
        with quiet():
            args = ocp.args.Composite(about=ocp.args.JsonRestore())
            return checkpoints.orbax.restore(step, args=args)["about"]
    except Exception as error:
        path = checkpoints.directory / str(step)
        raise CheckpointError(f"checkpoint {path} cannot be read: {one_line(error)}") from error


def _first_difference(stored, abstract) -> str | None:
    """Describes the first parameter, in alphabetical order, that does not fit; None if all fit."""
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
    # Orbax stores keys as their integers.
    numbers = lambda leaf: jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.tree.map(numbers, tree))
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    return {name(path): (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in leaves}


def _is_key(leaf) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _describe(shape_and_dtype: tuple) -> str:
    shape, dtype = shape_and_dtype
    return f"{dtype}[{', '.join(map(str, shape))}]"

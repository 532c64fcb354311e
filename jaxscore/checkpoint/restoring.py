"""Restores: the newest step whose files are good, into the shapes and shardings asked for.

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
    """`restore` of the `newest_good` step, in a run of one process; None if there is none."""
    step = newest_good(checkpoints, tell=tell)
    return None if step is None else restore(checkpoints, step, abstract)


def newest_good(checkpoints: Checkpoints, *, tell: Tell | None = None) -> int | None:
    """The newest step whose files are all as they were written; None if there is no step at all.

    Newer ones are moved into the folder `<directory>-damaged` beside the directory, each told in a line
    (`tell` defaults to a warning). Nothing is moved if there is no good one: CheckpointError is raised,
    rather than that training starts anew. Of several processes, the first one calls this.
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


def set_aside(checkpoints: Checkpoints, damaged: dict[int, str], tell: Tell) -> None:
    """Move damaged steps aside, and tell of each why; Orbax then knows what is left."""
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
    """The tree of a step, placed as `abstract` says (shapes, dtypes, shardings); all processes call it.

    The shardings may be others than those it was saved with. Raises CheckpointError if a parameter is
    missing, left over, or of another shape or dtype (it names the first one), or if the files cannot be
    read.
    """
    path = checkpoints.directory / str(step)
    try:
        with quiet():
            checkpoints.orbax.reload()  # another process may have moved damaged ones
            stored = checkpoints.orbax.item_metadata(step)["state"].tree
            difference = _first_difference(stored, abstract)
            if difference is None:
                args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
                return checkpoints.orbax.restore(step, args=args)["state"]
    except Exception as error:  # Orbax raises many types for files that are damaged or missing
        raise CheckpointError(f"checkpoint {path} cannot be read: {one_line(error)}") from error
    raise CheckpointError(f"checkpoint {path} is of another network: {difference}")


def about(checkpoints: Checkpoints, step: int) -> Any:
    """The JSON value that was saved with a step; None if there was none."""
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

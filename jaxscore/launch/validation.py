"""Validation: the loss of the averages on held-out examples, and the checkpoint where it is lowest.

An experiment with `validate` has its loss measured before each checkpoint. The loss is the metric of the
checkpoint, so --keep-best keeps the checkpoints with the lowest ones. Sampling, evaluation and `open_run`
use the best of the checkpoints that are kept; training always goes on from the newest.
"""

import math
from collections.abc import Callable
from typing import Any

import jax

from jaxscore import checkpoint, trainer
from jaxscore.checkpoint import Checkpoints
from jaxscore.launch import processes
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.metrics_log import NonFinite
from jaxscore.types import Array, Params

NAME = "validation"
"""Name of the loss in metrics.jsonl."""


def program(experiment: Experiment) -> Callable[[Params], Array] | None:
    """Returns validate(averages) -> the loss, jitted; None if the experiment has no `validate`."""
    validate, sampled = experiment.validate, experiment.sampled
    if validate is None:
        return None
    options = experiment.compiler_options
    return jax.jit(lambda averages: validate(sampled(averages)), compiler_options=options)


def measured(validate: Callable[[Params], Array] | None, state: trainer.TrainState) -> dict[str, float]:
    """Returns the loss of the state's averages by its name, or nothing if `validate` is None.

    Raises NonFinite if the loss is not finite.
    """
    if validate is None:
        return {}
    loss = float(validate(state.ema))
    if not math.isfinite(loss):
        raise NonFinite(f"the validation loss is {loss} after step {int(state.step)}")
    return {NAME: loss}


def best(experiment: Experiment, checkpoints: Checkpoints, abstract: Any, newest: Any) -> Any:
    """Returns the state of the best checkpoint, or the newest state if the experiment has no `validate`.

    Args:
        experiment: the experiment.
        checkpoints: open directory of checkpoints.
        abstract: shapes, types and shardings of the state.
        newest: the state of the newest checkpoint.

    Raises:
        CheckpointError: if the files of the best checkpoint cannot be read.
    """
    if experiment.validate is None:
        return newest
    step = processes.on_first(lambda: checkpoint.best_good(checkpoints))
    if step is None or step == int(newest.step):
        return newest
    return checkpoint.restore(checkpoints, step, abstract)

"""The rehearsal: what comes after training is tried after the first step, so that no long training is lost.

Training examples stand in for the samples.
"""

import contextlib
import io
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxscore.launch import console, evaluate, processes, programs
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.workdir import Refusal
from jaxscore.types import Params

FEW = 16
"""Number of samples in a rehearsal."""

NOTE = (
    "a trial after the first step, with training examples in place of samples; --mode train trains without it"
)


def rehearse(
    experiment: Experiment,
    mesh,
    drawn: dict[str, jax.ShapeDtypeStruct],
    averages: Params,
    history: list[dict[str, Any]],
) -> None:
    """Tries the experiment's evaluate, table and report, and raises what they raise. All processes call this.

    Tries them with FEW samples. If that fails, the number may be too small for them, and the number of
    --samples decides.

    Args:
        experiment: the experiment.
        mesh: the devices.
        drawn: shapes and types of the arrays of samples, see `sample.shapes`.
        averages: the averages of the parameters.
        history: lines of metrics.jsonl.
    """
    params = programs.whole(programs.sampled(experiment, averages, mesh), mesh)
    n = experiment.config.samples

    def trial() -> None:
        with contextlib.suppress(Exception):
            return _try(experiment, stand_ins(experiment, drawn, min(FEW, n)), params, history)
        try:
            _try(experiment, stand_ins(experiment, drawn, n), params, history)
        except Refusal as error:
            raise Refusal(f"{error} ({NOTE})") from None
        except Exception as error:
            error.add_note(NOTE)
            raise

    processes.on_first(trial)


def _try(experiment: Experiment, samples: dict[str, np.ndarray], params: Params, history: list) -> None:
    with (
        tempfile.TemporaryDirectory() as place,
        console.muted(),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(action="ignore"),
    ):
        found, _ = evaluate.judge(experiment, params, samples, history, Path(place))
        cost = {"seconds": 1.0, "compile_seconds": 1.0}
        found |= {"sampling": dict.fromkeys(experiment.samplers, cost), "stamp": ""}
        evaluate.table_of(experiment, json.loads(json.dumps(found)))


def stand_ins(
    experiment: Experiment, drawn: dict[str, jax.ShapeDtypeStruct], n: int
) -> dict[str, np.ndarray]:
    """Returns n rows for each array of samples: training examples if these have its shape, or else noise."""
    examples, rng = evaluate.examples(experiment, min(n, evaluate.REFERENCE)), np.random.default_rng(0)

    def rows(each: jax.ShapeDtypeStruct) -> np.ndarray:
        event = each.shape[1:]
        values = examples if event == examples.shape[1:] else rng.standard_normal((n, *event))
        return np.resize(values, (n, *event)).astype(each.dtype)

    return {name: rows(each) for name, each in drawn.items()}

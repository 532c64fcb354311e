"""Runs that have been trained, opened again: for a notebook, and for programs that work on any run.

run = open_run("runs/digits")                    # a run of experiments.digits
run = open_run("runs/flowers", build, Flowers)   # a run of an experiment of one's own
run.score(x, sigma)                              # with the averaged parameters
run.experiment.samplers["heun"](run.params, keys)
"""

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jaxscore import checkpoint, sharding
from jaxscore.launch import programs, validation, workdir
from jaxscore.launch.config import Config, restored
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.flags import FlagError
from jaxscore.launch.workdir import DATA, OTHER_DATA, VERSION, Refusal
from jaxscore.types import Array, Condition, Params


class Run(NamedTuple):
    """A trained run: its experiment, its averaged parameters, and the step of their checkpoint."""

    experiment: Experiment
    params: Params
    step: int

    def score(self, x: Array, sigma: Array, condition: Condition = None) -> Array:
        """Returns the score at x[b, ...], sigma[b], of the averaged parameters.

        Raises ValueError if the experiment does not say what its score is.
        """
        if self.experiment.score is None:
            raise ValueError(f"the experiment {self.experiment.name!r} has no `score`")
        given = {} if condition is None else {"condition": condition}
        return partial(self.experiment.score, self.params)(x, sigma, **given)


def open_run(
    folder: Path | str,
    build: Callable[[Any], Experiment] | None = None,
    kind: type | None = None,
    *,
    step: int | None = None,
) -> Run:
    """Returns the run in the folder. Raises Refusal if the folder has none, and CheckpointError.

    Args:
        folder: the --workdir of the run.
        build: build(config) -> Experiment, as `main` is given it; without it, that of experiments.NAME, where
            NAME is the experiment in the folder's config.json.
        kind: the class of the configuration, which `build` takes; given with `build`.
        step: the number of the checkpoint; by default the newest that is intact, or the one with the lowest
            validation loss if the experiment has `validate`.
    """
    folder = Path(folder)
    if (build is None) != (kind is None):
        raise TypeError("open_run takes both `build` and `kind`, or neither")
    if build is None:
        build, kind = find(folder)
    experiment = described(folder, build, kind)
    if not (folder / "checkpoints").is_dir():
        raise Refusal(f"{folder}: has no checkpoint yet; train the run first")
    with checkpoint.manager(folder / "checkpoints", read_only=True) as checkpoints:
        abstract = programs.abstract_state(experiment, sharding.mesh())
        if step is None:
            state = checkpoint.restore_latest(checkpoints, abstract)
            state = None if state is None else validation.best(experiment, checkpoints, abstract, state)
        else:
            kept = sorted(checkpoint.steps(folder / "checkpoints"))
            if step not in kept:
                found = f"it has {', '.join(map(str, kept)) or 'none'}"
                raise Refusal(f"{folder}: has no checkpoint of step {step}; {found}")
            state = checkpoint.restore(checkpoints, step, abstract)
    if state is None:
        raise Refusal(f"{folder}: has no checkpoint yet; train the run first")
    return Run(experiment, experiment.sampled(programs.whole(state.ema, sharding.mesh())), int(state.step))


def described(folder: Path, build: Callable[[Any], Experiment], kind: type) -> Experiment:
    """Returns the experiment that config.json in the folder describes. Raises Refusal if it does not."""
    name, fields = _stored(folder)
    if not issubclass(kind, Config):
        raise TypeError(f"{kind.__name__} is no configuration: give the class of the flags, a launch.Config")
    try:
        # An experiment whose data are absent can be built to be sampled.
        experiment = build(restored(kind, fields | {"workdir": str(folder), "mode": "sample"}))
    except (KeyError, TypeError, FlagError) as error:
        raise Refusal(f"{folder}: its config.json is not of this version: {error}") from None
    if experiment.name != name:
        raise Refusal(f"{folder}: holds a run of {name}, not of {experiment.name}")
    return experiment


def find(folder: Path, module: str | None = None) -> tuple[Callable[[Any], Experiment], type[Config]]:
    """Returns `build` and the class of the configuration of the run in the folder.

    Both are those of the module; by default, of experiments.NAME with the name in config.json. Raises
    Refusal if there is no such module, or if it does not define both.
    """
    name, _ = _stored(folder)
    remedy = "set PYTHONPATH to its folder" if module else "name its module with --experiment or --module"
    module = module or f"experiments.{name}"
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        reason = f"is a run of {name}, but {module} cannot be imported ({error})"
        raise Refusal(f"{folder}: {reason}; {remedy}") from None
    kinds = [value for value in vars(found).values() if isinstance(value, type) and _is_own(value, found)]
    if not kinds or not callable(getattr(found, "build", None)):
        raise Refusal(f"{folder}: is a run of {name}, but {module} has no `build`, or no configuration")
    return found.build, kinds[-1]


def _stored(folder: Path) -> tuple[str, dict[str, Any]]:
    """Returns the experiment's name and its fields in config.json. Raises Refusal if there are none."""
    fields = workdir.read_json(folder / "config.json")
    name = fields.pop("experiment", None) if isinstance(fields, dict) else None
    if not isinstance(name, str):
        raise Refusal(f"{folder}: holds no run of an experiment")
    return name, {name: value for name, value in fields.items() if name not in (DATA, VERSION, OTHER_DATA)}


def _is_own(kind: type, module: Any) -> bool:
    """Whether the class is a configuration that the module, or a module of its package, defines."""
    return issubclass(kind, Config) and kind.__module__.startswith(module.__name__)

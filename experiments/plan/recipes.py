"""Experiments by name, without their data: for programs that only compile or time them.

Planning and timing need the functions of an experiment and the shapes of its examples, not its images. Random
images of the same size stand in for a data set that is absent.
"""

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jaxscore.data import DataError
from jaxscore.launch import Config, Experiment, flags


class Recipe(NamedTuple):
    """An experiment's `build`, and the configurations to choose from by name, the first by default."""

    build: Callable[[Any], Experiment]
    presets: dict[str, Config]


def recipe(name: str, preset: str | None) -> tuple[Recipe, Config]:
    """Returns the recipe of experiments.NAME, or of another module, and the configuration of the preset.

    Raises FlagError, naming the choices, for a name or a preset that is not known.
    """
    module = _module(name)
    presets = getattr(module, "PRESETS", None) or {name.split(".")[-1]: module.Config()}
    default = getattr(module.Config, "preset", None)
    chosen = preset or (default if default in presets else next(iter(presets)))
    flags.require(chosen in presets, "preset", preset, f"is not known; use {', '.join(presets)}")
    return Recipe(lambda config: built(module.build, config), presets), presets[chosen]


def _module(name: str) -> Any:
    for path in (f"experiments.{name}", name):
        try:
            module = importlib.import_module(path)
        except ImportError as error:
            if error.name is None or not path.startswith(error.name):
                raise
            continue
        if hasattr(module, "build") and hasattr(module, "Config"):
            return module
    folder = Path(__file__).parents[1]
    known = sorted(path.parent.name for path in folder.glob("*/experiment.py"))
    families = f"families.NAME, {', '.join(known)}, toy2d"
    raise flags.FlagError(f"--experiment {name}: is no module with `build` and `Config`; use {families}")


def built(build: Callable[[Any], Experiment], config: Config) -> Experiment:
    """Returns the experiment, on random images if data are absent. Raises DataError without their size."""
    try:
        return build(config)
    except DataError as error:
        if not hasattr(config, "shape"):
            raise DataError(f"{error}; to plan without the data: --data random:HxWxC") from None
        return build(without_data(config))


def without_data(config: Config) -> Config:
    """Returns the configuration with random images of its `shape` in place of its data."""
    name = f"random:{'x'.join(map(str, config.shape))}"
    return dataclasses.replace(config, data=name, data_dir=None, size=None)

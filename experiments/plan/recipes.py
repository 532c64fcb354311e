"""Experiments by name, without data: for what only compiles or times their programs.

`plan` and `bench` need an experiment's functions and the shapes of its examples, not its images.
"""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.digits import experiment as digits
from experiments.ncsn import config as ncsn_config
from experiments.ncsn import experiment as ncsn
from jaxscore.data import DataError
from jaxscore.launch import flags
from jaxscore.launch.config import Config
from jaxscore.launch.experiment import Experiment


class Recipe(NamedTuple):
    """The presets of an experiment, which of them it has by itself, and the way to build it on no data."""

    presets: dict[str, Any]
    default: str
    build: Callable[[Any], Experiment]


def _ncsn(config: ncsn_config.Config) -> Experiment:
    images = np.random.default_rng(0).random((config.batch, *config.shape), np.float32)
    return ncsn.assemble(config, images, np.zeros(len(images), np.int32))


def _digits(config: digits.Config) -> Experiment:
    try:
        return digits.build(config)
    except DataError:  # scikit-learn has the digits; random images of their size take as long
        images = np.random.default_rng(0).random((1797, 8, 8, 1), np.float32)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "random.npz"
            np.savez(path, images=images, labels=np.zeros(len(images), np.int32))
            return digits.build(dataclasses.replace(config, data=f"npz:{path}"))


RECIPES: dict[str, Recipe] = {
    "ncsn": Recipe(ncsn_config.PRESETS, ncsn_config.Config.preset, _ncsn),
    "digits": Recipe({"digits": digits.Config()}, "digits", _digits),
}


def recipe(name: str, preset: str | None) -> tuple[Recipe, Config]:
    """The recipe and its preset's configuration. Raises FlagError, naming the choices, for unknown ones."""
    flags.require(name in RECIPES, "experiment", name, f"is not known; use {', '.join(RECIPES)}")
    found = RECIPES[name]
    known = preset is None or preset in found.presets
    flags.require(known, "preset", preset, f"is not known; use {', '.join(found.presets)}")
    return found, found.presets[preset or found.default]

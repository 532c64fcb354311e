import dataclasses
import importlib.util
from functools import partial
from pathlib import Path

import pytest

from experiments.digits import experiment as digits
from jaxscore.launch.config import Config, Optimizer
from jaxscore.launch.flags import FlagError

COUNTS = ["steps", "batch", "samples", "sample_batch", "log_every", "save_every"]
NAN = float("nan")
WRONG = dict.fromkeys(COUNTS, (0, -1)) | {"ema_decay": (-0.1, 1.0, NAN), "seed": (-1, 2**32)}
WRONG |= {"optimizer.learning_rate": (0.0, -1.0, NAN), "optimizer.warm_up": (-1,)}
WRONG |= {"optimizer.decay": (-0.1, 1.1, NAN), "optimizer.b2": (-0.1, 1.0, NAN)}


@pytest.mark.parametrize("name", WRONG)
def test_every_field_is_checked(name):
    *nested, field = name.split(".")
    kind = Optimizer if nested else partial(Config, workdir=Path("unused"))
    for value in WRONG[name]:
        with pytest.raises(FlagError, match=rf"^--{name.replace('_', '-')} {value}: must "):
            kind(**{field: value})


def test_the_ends_of_every_range_are_allowed():
    Optimizer(warm_up=0, decay=0.0, b2=0.0)
    Optimizer(decay=1.0)
    Config(workdir=Path("unused"), ema_decay=0.0, seed=0, **dict.fromkeys(COUNTS, 1))
    Config(workdir=Path("unused"), seed=2**32 - 1)


def test_tensorboard_is_refused_where_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    Config(workdir=Path("unused"))
    with pytest.raises(FlagError, match=r"^--tensorboard True: tensorboardX is not installed; pip install"):
        Config(workdir=Path("unused"), tensorboard=True)


def test_configurations_cannot_be_changed():
    config = Config(workdir=Path("unused"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.steps = 3


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_numbers_that_are_not_finite_are_refused_anywhere(bad):
    with pytest.raises(FlagError, match=r"^--heun\.sigma-max .*: must "):
        digits.Config(heun=digits.Heun(sigma_max=bad))
    with pytest.raises(FlagError, match=r"^--sigma-mean .*: must be a finite number$"):
        digits.Config(sigma_mean=bad)

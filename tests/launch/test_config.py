import dataclasses
import importlib.util
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.digits import experiment as digits
from jaxscore.launch.config import Config, Optimizer
from jaxscore.launch.flags import FlagError

# Rates are float32 sums and quotients of a few roundings, and Adam adds 1e-8 to the root.
RTOL = 1e-5


def rates(optimizer: Optimizer, steps: int, *, more: int = 0) -> np.ndarray:
    """The rate of every step: what Adam subtracts when every gradient is 1."""
    tx, one = optimizer.build(steps), jnp.ones(())
    state, found = tx.init(one), []
    for _ in range(steps + more):
        update, state = tx.update(one, state)
        found.append(-float(update))
    return np.array(found)


def test_the_rate_rises_stays_and_falls():
    found = rates(Optimizer(learning_rate=0.1, warm_up=4, decay=0.5), 20, more=1)
    rise = 0.1 * np.array([1, 2, 3, 4]) / 5
    fall = 0.1 * (1 - np.arange(10) / 10)
    np.testing.assert_allclose(found[:4], rise, rtol=RTOL)
    np.testing.assert_allclose(found[4:10], 0.1, rtol=RTOL)
    np.testing.assert_allclose(found[10:20], fall, rtol=RTOL)
    assert found[20] == 0  # were there a step after the last, its rate would be zero


@pytest.mark.parametrize(
    ("warm_up", "decay", "steps"),
    [(100, 0.5, 10), (100, 0.5, 2), (100, 0.0, 7), (5, 1.0, 10), (0, 0.5, 10), (0, 0.0, 3), (100, 0.5, 1)],
)
def test_short_runs_stay_within_the_rate_and_never_stand_still(warm_up, decay, steps):
    found = rates(Optimizer(learning_rate=0.1, warm_up=warm_up, decay=decay), steps)
    assert np.all(found > 0)
    assert np.all(found <= 0.1 * (1 + RTOL))
    peak = found.argmax()
    assert np.all(np.diff(found[: peak + 1]) >= -1e-7)
    assert np.all(np.diff(found[peak:]) <= 1e-7)


def test_a_run_shorter_than_its_warm_up_reaches_the_rate():
    """The rate falls afterwards."""
    found = rates(Optimizer(learning_rate=0.1, warm_up=100, decay=0.5), 10, more=1)
    np.testing.assert_allclose(found[:5], 0.1 * np.arange(1, 6) / 6, rtol=RTOL)
    np.testing.assert_allclose(found[5:], 0.1 * (1 - np.arange(6) / 5), rtol=RTOL, atol=1e-9)


def test_without_warm_up_and_decay_the_rate_is_constant():
    np.testing.assert_allclose(rates(Optimizer(learning_rate=0.3, warm_up=0, decay=0.0), 6), 0.3, rtol=RTOL)


def test_b2_is_that_of_adam():
    tx = Optimizer(learning_rate=1.0, warm_up=0, decay=0.0, b2=0.5).build(10)
    state = tx.init(jnp.ones(()))
    _, state = tx.update(jnp.asarray(2.0), state)
    update, _ = tx.update(jnp.asarray(4.0), state)
    first, second = 0.9 * 0.1 * 2 + 0.1 * 4, 0.5 * 0.5 * 4 + 0.5 * 16
    expected = -(first / (1 - 0.9**2)) / np.sqrt(second / (1 - 0.5**2))
    np.testing.assert_allclose(update, expected, rtol=RTOL)


WRONG = [
    *[(name, value) for name in ("steps", "batch", "samples", "sample_batch") for value in (0, -1)],
    *[(name, value) for name in ("log_every", "save_every") for value in (0, -1)],
    *[("ema_decay", value) for value in (-0.1, 1.0, float("nan"))],
    *[("seed", value) for value in (-1, 2**32)],
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_every_field_is_checked(name, value):
    with pytest.raises(FlagError) as caught:
        Config(workdir=Path("unused"), **{name: value})
    assert str(caught.value).startswith(f"--{name.replace('_', '-')} {value}: must ")


WRONG_OPTIMIZER = [
    *[("learning_rate", value) for value in (0.0, -1.0, float("nan"))],
    ("warm_up", -1),
    *[("decay", value) for value in (-0.1, 1.1, float("nan"))],
    *[("b2", value) for value in (-0.1, 1.0, float("nan"))],
]


@pytest.mark.parametrize(("name", "value"), WRONG_OPTIMIZER)
def test_every_field_of_the_optimizer_is_checked(name, value):
    with pytest.raises(FlagError) as caught:
        Optimizer(**{name: value})
    assert str(caught.value).startswith(f"--optimizer.{name.replace('_', '-')} {value}: must ")


def test_the_ends_of_every_range_are_allowed():
    Optimizer(warm_up=0, decay=0.0, b2=0.0)
    Optimizer(decay=1.0)
    ones = dict.fromkeys(["steps", "batch", "samples", "sample_batch", "log_every", "save_every"], 1)
    Config(workdir=Path("unused"), ema_decay=0.0, seed=0, **ones)
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


def test_a_cosine_falls_to_the_final_rate():
    recipe = Optimizer(learning_rate=1e-3, warm_up=0, decay=1.0, fall="cosine", final=1e-5)
    tx, params, moves = recipe.build(10), jnp.zeros(1), []
    state = tx.init(params)
    for _ in range(11):
        update, state = tx.update(jnp.ones(1), state)
        moves.append(-float(update[0]))  # Adam's step for a constant gradient is the rate
    expected = 1e-5 + (1e-3 - 1e-5) * (1 + np.cos(np.pi * np.arange(11) / 10)) / 2
    np.testing.assert_allclose(moves, expected, rtol=1e-4)

"""Judging: exact posteriors pass, others fail; results are kept, and failed simulations are dropped."""

import dataclasses
import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.sbi import judging
from experiments.sbi.config import Calibration
from experiments.sbi.judging import Judge, of_observation, outside, summary, two_sample
from experiments.sbi.references import reference
from experiments.sbi.tasks import TASKS
from jaxscore.launch import NonFinite
from tests.experiments.sbi import tiny

MANY = Calibration(simulations=100, draws=40, densities=20, density_draws=10)


def judged(folder, factor=1.0, given=MANY):
    config = tiny.config(folder, "gaussian_linear", calibration=given, sample_batch=1000)
    return summary(Judge(config, tiny.linear(factor)).ranks({}, 10**6))


# Against published draws --------------------------------------------------------------------------


def test_every_tenth_sample_is_of_one_observation():
    numbers = np.arange(40)[:, None]
    np.testing.assert_array_equal(of_observation(numbers, 3)[:, 0] % 10, 2)


@tiny.needs_package
def test_accuracies_are_kept_and_are_those_of_their_draws(tmp_path, monkeypatch):
    """A killed evaluation goes on where it was; other draws are compared anew."""
    config, asked = tiny.config(tmp_path), []
    config.workdir.mkdir()

    def c2st(exact, mine):
        np.testing.assert_array_equal(exact, reference("two_moons", len(asked) % 2 + 1).draws[:10])
        asked.append(mine)
        return SimpleNamespace(accuracy=0.5 + len(asked) / 100)

    monkeypatch.setattr(judging.metrics, "c2st", c2st)
    theta = np.random.default_rng(0).uniform(-1, 1, (120, 2)).astype(np.float32)
    found = two_sample(config, theta)
    assert found == two_sample(config, theta)
    assert len(asked) == 2
    assert (found["draws"], found["accuracies"]) == (10, [0.51, 0.52])
    assert found["error"] == pytest.approx(np.sqrt(0.25 / 20))
    two_sample(config, theta + 0.01)
    assert len(asked) == 4


def test_too_few_draws_have_no_accuracy(tmp_path):
    """As in the trial after the first step."""
    found = two_sample(tiny.config(tmp_path), np.zeros((16, 2), np.float32))
    assert found == {"draws": 0, "accuracies": []}


# Fresh simulations --------------------------------------------------------------------------------


def test_exact_posteriors_pass(tmp_path):
    found = judged(tmp_path)
    assert set(found["p_values"]) == {"sbc", "likelihood", "tarp", "density"}
    assert min(found["p_values"].values()) > 1e-3  # each is below this number once in 1000 seeds
    for name in ("sbc", "density"):
        cover = found[f"{name}_coverage"]
        # The mean over ten parameters varies less than one of them.
        assert np.abs((cover["fraction"] - judging.LEVELS) / cover["error"]).max() < 4
    assert (found["simulations"], found["draws"], found["densities"], found["dropped"]) == (100, 40, 20, 0)


@pytest.mark.parametrize(("factor", "sign"), [(0.3, -1), (3.0, 1)])
def test_a_wrong_width_fails(tmp_path, factor, sign):
    """The coverage tells too narrow posteriors from too wide ones."""
    found = judged(tmp_path, factor, dataclasses.replace(MANY, densities=0))
    assert set(found["p_values"]) == {"sbc", "likelihood", "tarp"}
    assert max(found["p_values"].values()) < 1e-3
    assert (sign * (found["sbc_coverage"]["fraction"] - judging.LEVELS) > 0).all()


def test_failed_simulations_are_dropped_here_too(tmp_path, monkeypatch):
    task = TASKS["gaussian_linear"]
    broken = lambda key, theta: jnp.where(theta[:, :1] > 0.3, jnp.inf, task.simulate(key, theta))
    monkeypatch.setitem(TASKS, "gaussian_linear", task._replace(simulate=broken))
    found = judged(tmp_path, given=dataclasses.replace(MANY, densities=0))
    assert 5 < found["dropped"] < 35  # 17 %
    assert found["simulations"] == 100 - found["dropped"]


def test_ranks_are_kept_until_the_parameters_change(tmp_path, monkeypatch):
    given = dataclasses.replace(tiny.CALIBRATION, densities=0)
    config, drawn = tiny.config(tmp_path, "gaussian_linear", calibration=given), []
    judge = Judge(config, tiny.linear())
    measured = judge._measured
    monkeypatch.setattr(judge, "_measured", lambda *given: drawn.append(given) or measured(*given))
    params = {"bias": np.zeros(2)}
    first, again = judge.ranks(params, 1000), judge.ranks(params, 1000)
    assert len(drawn) == 1
    assert first.keys() == again.keys()
    np.testing.assert_array_equal(first["sbc"], again["sbc"])
    judge.ranks({"bias": np.ones(2)}, 1000)
    assert len(drawn) == 2
    few = judge.ranks(params, 16)
    assert (few["draws_for_each"][0], len(few["sbc"])) == (2, 7)  # a trial draws few
    broken = Judge(config, tiny.linear(np.nan))
    with pytest.raises(NonFinite, match="draws for 8 of 8 fresh simulations are not finite; lower --samp"):
        broken.ranks({"bias": np.full(2, 3.0)}, 1000)


def test_draws_outside_of_the_support_are_counted():
    theta = np.array([[0.0, 0.5], [1.01, 0.0], [1.0, -1.0]], np.float32)
    assert outside(TASKS["two_moons"], theta) == 1
    assert json.dumps(outside(TASKS["gaussian_linear"], np.full((2, 10), 9.0, np.float32))) == "0"

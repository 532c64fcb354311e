"""Experiments by name, without data."""

import dataclasses
import sys

import pytest

from experiments.plan import recipes as plan_recipes
from jaxscore.launch.flags import FlagError


def test_unknown_names_list_the_known_ones():
    with pytest.raises(FlagError, match="--experiment nope: is not known; use ncsn, digits"):
        plan_recipes.recipe("nope", None)
    with pytest.raises(FlagError, match="--preset nope: is not known; use digits, fashion"):
        plan_recipes.recipe("ncsn", "nope")
    assert plan_recipes.recipe("ncsn", None)[1].preset == "fashion"
    assert plan_recipes.recipe("ncsn", "cifar10")[1].levels == 232


def test_recipes_need_no_data():
    found, config = plan_recipes.recipe("ncsn", "cifar10")
    experiment = found.build(dataclasses.replace(config, batch=4, channels=4))
    assert experiment.event.shape == (32, 32, 3)
    assert next(experiment.batches(0)).shape == (4, 32, 32, 3)


def test_digits_without_scikit_learn_are_random_images(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    found, config = plan_recipes.recipe("digits", None)
    experiment = found.build(dataclasses.replace(config, batch=16))
    assert next(experiment.batches(0)).shape == (16, 8, 8, 1)

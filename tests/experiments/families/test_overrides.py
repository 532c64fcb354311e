"""Recipes by data set change only flags that the family has, and differ between data sets."""

import pytest

from experiments.families import overrides as recipes
from experiments.trilemma import run as trilemma
from tests.experiments.families import small


@pytest.mark.parametrize("data", ["digits", "25gaussians", "stacked_digits", "cifar10"])
@pytest.mark.parametrize("family", trilemma.KNOWN)
def test_every_family_has_one_for_every_data_set(family, data):
    found, default = recipes.recipe(family, data), small.module(family).Config()
    assert found.data == data
    for name, value in recipes.CHANGES.get(data, {}).get(family, {}).items():
        assert getattr(found, name) == value != getattr(default, name)


def test_only_known_families_have_changes():
    assert {family for changes in recipes.CHANGES.values() for family in changes} <= set(trilemma.KNOWN)


@pytest.mark.parametrize("name", ["gan", "ddgan"])
@pytest.mark.parametrize("data", ["digits", "25gaussians"])
def test_vanilla_recipes_differ_in_the_two_aids_alone(name, data):
    ours, theirs = (vars(recipes.recipe(kind, data)) for kind in (name, f"vanilla_{name}"))
    assert {name for name in ours if ours[name] != theirs[name]} == {"penalty", "group"}

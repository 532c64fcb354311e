"""Experiments by name, on random images where their data are absent."""

import dataclasses

import numpy as np
import pytest

from experiments.plan import recipes
from jaxscore.data import DataError
from jaxscore.launch.flags import FlagError


def test_unknown_names_list_the_known_ones():
    with pytest.raises(
        FlagError, match=r"--experiment nope: is no module .*; use families.NAME, digits, edm, .*, toy2d"
    ):
        recipes.recipe("nope", None)
    with pytest.raises(FlagError, match="--preset nope: is not known; use digits, fashion"):
        recipes.recipe("ncsn", "nope")
    assert recipes.recipe("ncsn", None)[1].preset == "fashion"
    assert recipes.recipe("ncsn", "cifar10")[1].levels == 232


@pytest.mark.parametrize("name", ["digits", "toy2d", "families.edm", "families.gan"])
def test_every_experiment_is_a_recipe(name):
    """Modules outside of the package are, too: tests.launch.tiny is one."""
    found, config = recipes.recipe(name, None)
    assert found.build(dataclasses.replace(config, batch=8)).name == name
    assert recipes.recipe("tests.launch.tiny", None)[0].build(config).name == "tiny"


def test_absent_data_of_known_size_are_random_images():
    found, config = recipes.recipe("ncsn", "cifar10")
    experiment = found.build(dataclasses.replace(config, batch=4, channels=4, data_dir="/nowhere"))
    x = next(experiment.batches(batch=4, seed=0))["x"]
    assert (x.shape, x.dtype) == ((4, 32, 32, 3), np.uint8)


def test_absent_data_of_unknown_size_name_the_remedy():
    found, config = recipes.recipe("digits", None)
    with pytest.raises(DataError, match=r"nowhere.npz.*; to plan without the data: --data random:HxWxC"):
        found.build(dataclasses.replace(config, data="npz:/nowhere.npz"))
    experiment = found.build(dataclasses.replace(config, data="random:6x6x2", batch=8))
    assert next(experiment.batches(batch=8, seed=0))["x"].shape == (8, 6, 6, 2)

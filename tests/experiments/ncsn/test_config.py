import dataclasses

import jax
import pytest

from experiments.ncsn import experiment as ncsn
from experiments.ncsn.config import PRESETS, Config
from jaxscore import calibrate, sharding
from jaxscore.launch import flags, programs
from jaxscore.launch.flags import FlagError
from tests.grids import rest

PUBLISHED = {
    # name: image, sigma_1, L, T, epsilon, iterations, batch, learning rate, average, Adam's epsilon
    "mnist": ((28, 28, 1), 1, 10, 100, 2e-5, 200_000, 128, 1e-3, 0, 1e-8),
    "ncsn_v1": ((32, 32, 3), 1, 10, 100, 2e-5, 200_000, 128, 1e-3, 0, 1e-8),
    "cifar10": ((32, 32, 3), 50, 232, 5, 6.2e-6, 300_000, 128, 1e-4, 0.999, 1e-8),
    "celeb_a": ((64, 64, 3), 90, 500, 5, 3.3e-6, 210_000, 128, 1e-4, 0.999, 1e-8),
    "lsun_church": ((96, 96, 3), 140, 788, 4, 4.9e-6, 200_000, 128, 1e-4, 0.999, 1e-8),
    "lsun_bedroom": ((128, 128, 3), 190, 1086, 3, 1.8e-6, 150_000, 128, 1e-4, 0.999, 1e-8),
    "lsun_tower": ((128, 128, 3), 190, 1086, 3, 1.8e-6, 150_000, 128, 1e-4, 0.999, 1e-8),
    "ffhq": ((256, 256, 3), 348, 2311, 3, 9e-7, 80_000, 32, 1e-4, 0.999, 1e-3),
}

NETWORKS = {
    # name: the network, its parameters (counted by hand in tests/networks)
    "mnist": ("ncsn", 64, "small", 7_638_657),
    "ncsn_v1": ("ncsn", 128, "small", 30_117_635),
    "cifar10": ("ncsnv2", 128, "small", 29_694_083),
    "celeb_a": ("ncsnv2", 128, "small", 29_694_083),
    "lsun_church": ("ncsnv2", 128, "deeper", 83_445_379),
    "lsun_bedroom": ("ncsnv2", 128, "deeper", 83_445_379),
    "ffhq": ("ncsnv2", 128, "deepest", 94_132_611),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipes_have_the_published_constants(name):
    config = PRESETS[name]
    adam = config.optimizer
    found = (config.shape, config.sigma_max, config.levels, config.langevin_steps, config.epsilon)
    found += (config.steps, config.batch, adam.learning_rate, config.ema_decay, adam.epsilon)
    assert found == PUBLISHED[name]
    assert config.sigma_min == 0.01
    assert (adam.b2, adam.warm_up, adam.decay) == (0.999, 0, 0.0)  # Adam as PyTorch has it, a constant rate
    assert (config.start, config.precision, config.grey_values) == ("uniform", "float32", 255)
    assert config.flip == (name != "mnist")
    assert not config.ablate
    for field in ("sigma_max", "levels", "epsilon"):
        assert getattr(calibrate.PRESETS[name], field) == getattr(config, field)


ONE_OF_EACH = ["mnist", "cifar10", "lsun_church", "ffhq"]


@pytest.mark.parametrize("name", [name if name in ONE_OF_EACH else rest(name) for name in NETWORKS])
def test_published_networks_take_the_published_images(name):
    """By shapes alone: nothing of that size is computed, and no data are needed."""
    config = dataclasses.replace(PRESETS[name], mode="sample", data="npz:/nowhere.npz", size=None)
    network, channels, stages, count = NETWORKS[name]
    assert (config.network, config.channels, config.stages) == (network, channels, stages)
    experiment = ncsn.build(config)
    state = programs.abstract_state(experiment, sharding.mesh())
    size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
    assert size(state.params) == size(state.ema) == count
    # With Adam's two moments four times the parameters, and some counters.
    assert 4 * count < size(state) < 4 * count + 10
    assert size(state) * 4 < 1.6e9  # the largest state, in bytes: for any accelerator


def test_the_recipe_of_the_towers_is_that_of_the_bedrooms():
    bedroom, tower = PRESETS["lsun_bedroom"], PRESETS["lsun_tower"]
    differing = {name: getattr(bedroom, name) for name in ("preset", "data", "workdir")}
    assert dataclasses.replace(tower, **differing) == bedroom


def test_every_preset_says_its_name_and_has_a_folder_of_its_own():
    for name, config in PRESETS.items():
        assert config.preset == name
        assert config.workdir.name == f"ncsn-{name}"
    assert Config().preset in PRESETS
    assert len({config.workdir for config in PRESETS.values()}) == len(PRESETS)


@pytest.mark.parametrize(("name", "shape"), [("digits", (8, 8, 1)), ("fashion", (28, 28, 1))])
def test_the_small_recipes_have_the_levels_that_calibrate_finds(name, shape):
    config = PRESETS[name]
    recipe = calibrate.recipe(shape, config.sigma_max, steps=config.langevin_steps)
    assert (config.shape, config.levels, config.sigma_min) == (shape, recipe.levels, recipe.sigma_min)
    if name == "digits":
        assert config.epsilon == pytest.approx(recipe.epsilon, rel=0.01)
    else:  # by technique 4's step, of 1.3e-5 with two steps a level, the network would fall behind
        pace = lambda epsilon: calibrate.pace(epsilon, config.sigma_min, recipe.ratio, recipe.steps)
        assert pace(recipe.epsilon) > 1.2
        assert pace(config.epsilon) < 0.7


# What is refused ------------------------------------------------------------------------------


def test_a_step_with_which_langevin_diverges_names_the_limit():
    limit = "2 sigma-min^2 = 0.0002, from where on Langevin dynamics diverges"
    with pytest.raises(FlagError, match=limit.replace("^", r"\^")):
        Config(epsilon=3e-4)
    Config(epsilon=1.99e-4)
    Config(epsilon=3e-4, sigma_min=0.02)


def test_flags_start_from_the_preset():
    config = flags.parse(PRESETS["celeb_a"], ["--channels", "64", "--no-flip", "--shape", "32", "32", "3"])
    assert config == dataclasses.replace(PRESETS["celeb_a"], channels=64, flip=False, shape=(32, 32, 3))

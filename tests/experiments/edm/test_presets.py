"""Each preset starts, if its data are there; random images of their size stand in for them."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from experiments.edm import PRESETS, build
from experiments.plan.recipes import without_data
from jaxscore.updates import Context

MILLIONS = {  # Karras et al. 2022, tables 7 and 8; Karras et al. 2024, table 2
    "cifar10": 56,
    "cifar10_conditional": 56,
    "ffhq": 62,
    "afhqv2": 62,
    "imagenet64": 296,
    "edm2_s": 280,
    "edm2_xs": 125,
    "dit": 675,  # Peebles & Xie 2023, table 4
}
IMAGES = {"cifar10": 200, "ffhq": 200, "imagenet64": 2500, "edm2_s": 1074, "edm2_xs": 2147}


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_traces_its_loss(name):
    config = dataclasses.replace(without_data(PRESETS[name]), batch=8, samples=8)
    experiment = build(config)
    params = jax.eval_shape(experiment.init, jax.random.key(0))
    batch = next(experiment.batches(batch=8, seed=0))
    context = Context(jax.random.key(1), jnp.int32(0), params)
    value, _ = jax.eval_shape(experiment.loss, params, context, batch)
    assert (value.shape, value.dtype) == ((), jnp.float32)
    count = sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6
    assert name == "fashion" or round(count) == MILLIONS[name]
    assert config.preset == name


@pytest.mark.parametrize("name", IMAGES)
def test_a_preset_sees_as_many_images_as_published(name):
    config = PRESETS[name]
    assert round(config.steps * config.batch / 1e6) == IMAGES[name]
    assert round(config.optimizer.warm_up * config.batch / 1e6) == 10

"""DiT; tests/networks/test_parity.py holds it against the published network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore.networks import DiT, dit
from tests.networks import contract

make = functools.partial(DiT, width=16, depth=2, heads=2, patch=2)


@pytest.mark.parametrize("check", ["bfloat16", "no coupling", "zero start"])
def test_keeps_the_promises_of_a_network(check):
    contract.CHECKS[check](make, (4, 6, 2))


@pytest.mark.parametrize("event", [(5, 3), (2, 3, 4, 1)])
def test_sequences_and_volumes_come_back_in_their_shape(event):
    contract.check_shape_and_zero_start(make(), event)


def test_every_parameter_learns_and_remat_changes_nothing():
    contract.check_remat(make, (4, 4, 2))


def test_positions_differ_along_every_axis():
    found = dit.positions([3, 4, 5], 20)
    assert found.shape == (60, 20)
    distances = np.linalg.norm(found[:, None] - found[None], axis=2)
    assert distances[~np.eye(60, dtype=bool)].min() > 0.1


def test_a_size_that_is_not_published_is_refused():
    with pytest.raises(ValueError, match="size 'xxl' is not known; use s, b, l, xl"):
        DiT.named("xxl")


def test_a_class_that_is_not_there_is_refused():
    x, c_noise = contract.inputs((4, 4, 1))
    network = make(classes=3)
    params = contract.parameters(network, x, c_noise, jnp.arange(3))
    with pytest.raises(ValueError, match=r"label 4 is not in 0..2"):
        network.apply(params, x, c_noise, jnp.array([0, 4, 1]))
    jax.eval_shape(network.apply, params, x, c_noise, jnp.array([0, 3, 1]))  # 3 is no class


def test_labels_and_examples_must_be_as_many():
    x, c_noise = contract.inputs((4, 4, 1))
    with pytest.raises(ValueError, match=r"labels have shape \(1,\), but there are 3 examples"):
        make(classes=3).init(jax.random.key(0), x, c_noise, jnp.array([0]))


def test_an_example_must_have_sides():
    with pytest.raises(ValueError, match=r"x has shape \(2, 3\): this network needs \[b, \.\.\., c\]"):
        make().init(jax.random.key(0), jnp.ones((2, 3)), jnp.ones(2))

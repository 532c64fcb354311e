"""The network of the experiment."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.sbi.network import Network

Z, LEVEL, Y = jnp.ones((3, 2)), jnp.zeros(3), jnp.arange(12.0).reshape(3, 4)


def params_of(network, scale):
    """Parameters after the start, at which the output is zero."""
    start = network.init(jax.random.key(0), Z, LEVEL, Y)
    return jax.tree.map(lambda leaf: leaf + scale * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), start)


def test_it_starts_at_zero_and_sees_everything():
    network = Network(width=8, depth=2, embedding=8)
    np.testing.assert_array_equal(network.apply(params_of(network, 0.0), Z, LEVEL, Y), 0)
    params = params_of(network, 0.3)
    out = network.apply(params, Z, LEVEL, Y)
    assert out.shape == Z.shape
    for changed in ((Z + 1, LEVEL, Y), (Z, LEVEL + 1, Y), (Z, LEVEL, Y + 1)):
        assert np.abs(network.apply(params, *changed) - out).min() > 1e-6


def test_units_are_dropped_in_training_alone():
    network = Network(width=8, depth=1, embedding=8, dropout=0.5)
    params, drop = params_of(network, 0.3), {"dropout": jax.random.key(1)}
    plain = network.apply(params, Z, LEVEL, Y)
    np.testing.assert_array_equal(network.apply(params, Z, LEVEL, Y), plain)
    assert np.abs(network.apply(params, Z, LEVEL, Y, train=True, rngs=drop) - plain).max() > 1e-3


def test_a_row_does_not_depend_on_the_others():
    network = Network(width=8, depth=2, embedding=8)
    params = params_of(network, 0.3)
    one = network.apply(params, Z[1:2], LEVEL[1:2], Y[1:2])
    np.testing.assert_allclose(network.apply(params, Z, LEVEL, Y)[1:2], one, rtol=1e-5)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore.networks import DenseGenerator
from jaxscore.networks.layers import waves

EVENT = (4, 4, 2)


@pytest.fixture(scope="module")
def inputs():
    keys = jax.random.split(jax.random.key(0), 2)
    return jax.random.normal(keys[0], (6, 5)), jax.random.normal(keys[1], (6, *EVENT)), jnp.linspace(-1, 1, 6)


def test_from_a_latent_alone(inputs):
    network = DenseGenerator(EVENT, width=16)
    params = jax.jit(network.init)(jax.random.key(1), inputs[0])
    out = jax.jit(network.apply)(params, inputs[0])
    assert out.shape == (6, *EVENT)
    # It differs with z before any training, or it would learn to ignore it.
    assert float(jnp.std(out, axis=0).mean()) > 0.1


def test_each_input_changes_the_output_of_its_own_example(inputs):
    network = DenseGenerator(EVENT, width=16, octaves=2)
    params = jax.jit(network.init)(jax.random.key(1), *inputs)
    apply = jax.jit(network.apply)
    whole = apply(params, *inputs)
    for changed in range(3):
        other = [x.at[0].add(0.5) if number == changed else x for number, x in enumerate(inputs)]
        found = apply(params, *other)
        assert not np.allclose(found[0], whole[0], atol=1e-3)
        np.testing.assert_allclose(found[1:], whole[1:], rtol=1e-5, atol=1e-6)


def test_it_computes_in_bfloat16_and_returns_float32(inputs):
    network = DenseGenerator(EVENT, width=16, dtype=jnp.bfloat16)
    params = jax.eval_shape(network.init, jax.random.key(1), inputs[0])
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
    assert jax.eval_shape(network.apply, params, inputs[0]).dtype == jnp.float32


def test_waves_are_the_input_and_its_octaves():
    x = np.array([[0.3, -1.0]], np.float32)
    expected = [x, np.cos(2 * x), np.sin(2 * x), np.cos(4 * x), np.sin(4 * x)]
    np.testing.assert_allclose(waves(jnp.asarray(x), 2), np.concatenate(expected, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(waves(jnp.asarray(x), 0), x)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore.networks import Decoder, Encoder
from tests.networks import contract


@pytest.mark.parametrize("event", [(8, 8, 1), (7, 10, 3)])
def test_shapes_of_both_halves(event):
    encoder, decoder = Encoder(outputs=6, channels=4), Decoder(event, channels=4)
    x, z = jnp.ones((3, *event)), jnp.ones((3, 6))
    of = lambda network, x: jax.eval_shape(network.init_with_output, jax.random.key(0), x)[0]
    assert of(encoder, x) == jax.ShapeDtypeStruct((3, 6), np.float32)
    assert of(decoder, z) == jax.ShapeDtypeStruct((3, *event), np.float32)


def test_every_pixel_is_encoded():
    encoder = Encoder(outputs=2, channels=4, multipliers=(1, 2))
    x = jax.random.normal(jax.random.key(0), (1, 6, 6, 1))
    params = jax.jit(encoder.init)(jax.random.key(1), x)
    slope = jax.jit(jax.grad(lambda x: encoder.apply(params, x)[0, 0]))(x)
    assert bool(jnp.all(slope != 0))


def test_every_number_of_the_code_matters_everywhere():
    """Each number changes every quarter of the image."""
    decoder = Decoder((8, 8, 1), channels=4)
    z = jax.random.normal(jax.random.key(0), (1, 3))
    params = jax.jit(decoder.init)(jax.random.key(1), z)
    jacobian = jax.jit(jax.jacobian(lambda z: decoder.apply(params, z)[0, :, :, 0]))(z)[:, :, 0]
    quarters = np.abs(jacobian).reshape(2, 4, 2, 4, 3).sum(axis=(1, 3))
    assert (quarters > 0).all()


def test_every_parameter_of_an_autoencoder_learns():
    encoder, decoder = Encoder(2, channels=4), Decoder((4, 4, 1), channels=4)
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 1))
    params = contract.parameters(encoder, x), contract.parameters(decoder, jnp.zeros((2, 2)))
    code = lambda params: encoder.apply(params[0], x)
    loss = lambda params: jnp.mean((decoder.apply(params[1], code(params)) - x) ** 2)
    contract.assert_all_learn(jax.jit(jax.grad(loss))(params))

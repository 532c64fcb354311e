import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore.networks import convolution
from tests.networks import numpy_ncsn

FEATURES = 4


@pytest.mark.parametrize(("size", "dilation"), [(3, 1), (3, 2), (1, 1)])
def test_the_layer_is_the_sum_of_the_definition(size, dilation):
    draw = lambda *shape: np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    x, kernel = jnp.asarray(draw(8, 5, 6, 3)), jnp.asarray(draw(size, size, 3, FEATURES))
    layer = convolution.Convolution(FEATURES, size, dilation)
    bias = jnp.arange(4.0)
    out = layer.apply({"params": {"kernel": kernel, "bias": bias}}, x)
    state = {"c.weight": np.asarray(kernel).transpose(3, 2, 0, 1), "c.bias": np.asarray(bias)}
    expected = numpy_ncsn.conv(state, "c", np.moveaxis(np.asarray(x, float), 3, 1), dilation)
    np.testing.assert_allclose(out, np.moveaxis(expected, 1, 3), rtol=1e-5, atol=1e-5)


def test_the_start_is_uniform_within_1_over_root_fan_in():
    layer = convolution.Convolution(256)
    shapes = jnp.zeros((1, 2, 2, 7))
    params = jax.jit(functools.partial(layer.init, jax.random.key(0)))(shapes)["params"]
    bound = 1 / np.sqrt(9 * 7)
    for values in (params["kernel"], params["bias"]):
        assert float(jnp.abs(values).max()) <= bound
        # Uniform: the variance is bound^2 / 3, known from 256 values (and more) to about 6 per cent.
        assert float(jnp.mean(values**2)) == pytest.approx(bound**2 / 3, rel=0.25)
    plain = convolution.Convolution(4, use_bias=False)
    assert set(jax.eval_shape(plain.init, jax.random.key(0), shapes)["params"]) == {"kernel"}

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore.networks import convolution
from tests.networks import numpy_ncsn

ROWS, EVENT, FEATURES = 8, (5, 6, 3), 4


def arrays(seed=0, size=3):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
    return draw(ROWS, *EVENT), draw(size, size, EVENT[-1], FEATURES)


@pytest.mark.parametrize(("size", "dilation"), [(3, 1), (3, 2), (1, 1)])
def test_the_layer_is_the_sum_of_the_definition(size, dilation):
    x, kernel = arrays(size=size)
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
    assert (
        "bias"
        not in jax.eval_shape(convolution.Convolution(4, use_bias=False).init, jax.random.key(0), shapes)[
            "params"
        ]
    )

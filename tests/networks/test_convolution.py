import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxscore.networks import convolution
from tests.networks import numpy_ncsn

ROWS, EVENT, FEATURES = 8, (5, 6, 3), 4


def arrays(seed=0, size=3):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
    return draw(ROWS, *EVENT), draw(size, size, EVENT[-1], FEATURES)


@pytest.fixture(params=[1, 8], ids=["whole", "in parts"])
def parts(request, monkeypatch):
    # A part's output of no more than that many bytes: all eight examples at once, or each alone.
    monkeypatch.setattr(convolution, "PART_BYTES", 10**9 if request.param == 1 else 4 * 5 * 6 * FEATURES)
    return request.param


def test_the_gradient_is_taken_in_parts_that_fit(parts):
    x, kernel = arrays()
    loss = lambda kernel: jnp.sum(convolution.convolve(x, kernel) ** 2)
    text = jax.jit(jax.grad(loss)).lower(kernel).as_text()
    assert text.count("stablehlo.convolution") == 1 + parts  # the value's, and a gradient's per part
    for platform in ("tpu", "cuda"):  # in one piece
        text = jax.jit(jax.grad(loss)).trace(kernel).lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == 2


@pytest.mark.parametrize(("size", "dilation"), [(3, 1), (3, 2), (1, 1)])
def test_the_layer_is_the_sum_of_the_definition(size, dilation):
    x, kernel = arrays(size=size)
    layer = convolution.Convolution(FEATURES, size, dilation)
    bias = jnp.arange(4.0)
    out = layer.apply({"params": {"kernel": kernel, "bias": bias}}, x)
    state = {"c.weight": np.asarray(kernel).transpose(3, 2, 0, 1), "c.bias": np.asarray(bias)}
    expected = numpy_ncsn.conv(state, "c", np.moveaxis(np.asarray(x, float), 3, 1), dilation)
    np.testing.assert_allclose(out, np.moveaxis(expected, 1, 3), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.usefixtures("parts")
def test_all_derivatives_are_those_of_the_plain_convolution(dilation):
    (x, kernel), (dx, dkernel) = arrays(0), arrays(1)

    def derivatives(conv):
        value = lambda x, kernel: jnp.sum(jnp.sin(conv(x, kernel, dilation)))
        along_x = lambda x, kernel: jax.jvp(lambda x: value(x, kernel), (x,), (dx,))[1]
        along_kernel = lambda x, kernel: jax.jvp(lambda kernel: value(x, kernel), (kernel,), (dkernel,))[1]
        both = lambda x, kernel: [
            jax.value_and_grad(f, argnums=(0, 1))(x, kernel) for f in (value, along_x, along_kernel)
        ]
        return jax.jit(both)(x, kernel)

    ours, plain = derivatives(convolution.convolve), derivatives(convolution._plain)
    # Sums of at most 9 * 8 * 30 products of order one, in another order: 1e-5 of the largest.
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * float(jnp.abs(b).max() + 1))
    jax.tree.map(close, ours, plain)


def test_a_slope_along_x_alone_costs_one_convolution():
    x, kernel = arrays()
    slope = lambda x, kernel: jax.jvp(lambda x: convolution.convolve(x, kernel), (x,), (x,))[1]
    assert jax.jit(slope).lower(x, kernel).as_text().count("stablehlo.convolution") == 1


@pytest.mark.usefixtures("parts")
def test_the_kernel_gradient_of_a_sharded_batch_is_the_same():
    x, kernel = arrays()
    gradient = jax.jit(jax.grad(lambda kernel, x: jnp.sum(convolution.convolve(x, kernel) ** 3)))
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    expected = gradient(kernel, x)
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(gradient(kernel, sharded), expected, atol=1e-5 * scale)


def test_maps_over_a_further_axis():
    x, kernel = arrays()
    gradient = jax.grad(lambda kernel, x: jnp.sum(convolution.convolve(x, kernel) ** 2))
    mapped = jax.jit(jax.vmap(gradient, in_axes=(None, 0)))(kernel, jnp.stack([x, 2 * x]))
    np.testing.assert_allclose(mapped[1], 4 * mapped[0], rtol=1e-4, atol=1e-2)


def test_the_start_is_uniform_within_one_over_the_root_of_the_fan_in():
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

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxscore import objectives, score
from jaxscore.networks import MLP
from tests.networks import contract

make = functools.partial(MLP, width=16, depth=2)


@pytest.mark.parametrize("check", contract.CHECKS)
def test_keeps_the_promises_of_a_network(check):
    contract.CHECKS[check](make, (3,))


@pytest.mark.parametrize("event", [(2,), (4, 2, 1)])
def test_events_of_any_shape_come_back_in_it(event):
    contract.check_shape_and_zero_start(make(depth=1), event)


def test_depth_and_width_are_what_they_say():
    shapes = jax.eval_shape(MLP(width=16, depth=3).init, jax.random.key(0), *contract.inputs((3,)))["params"]
    assert sum(name.startswith("ResidualBlock") for name in shapes) == 3
    assert shapes["ResidualBlock_0"]["Dense_0"]["kernel"].shape == (16, 16)


def test_the_trace_has_a_gradient_in_every_kernel():
    # With ReLU the gradient of the trace in the first layer would vanish almost everywhere.
    x, c_noise = contract.inputs((3,))
    network = make()
    params = contract.parameters(network, x, c_noise)

    def trace(params):
        bound = functools.partial(score.preconditioned(network.apply, 0.5), params)
        half_square = jnp.sum(bound(x, jnp.exp(4 * c_noise)) ** 2) / 2
        return objectives.implicit(bound, jax.random.key(0), x, jnp.exp(4 * c_noise)).sum() - half_square

    kernel = jax.jit(jax.grad(trace))(params)["params"]["Dense_0"]["kernel"]
    assert float(jnp.abs(kernel).max()) > 1e-3


def test_an_nnx_module_plugs_in_by_split_and_merge():
    """What the rest of the library sees is (params, x, c_noise) -> array, of any origin."""

    class Small(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(3, 16, rngs=rngs)
            self.out = nnx.Linear(16, 2, kernel_init=nnx.initializers.zeros, rngs=rngs)

        def __call__(self, x, c_noise):
            return self.out(nnx.silu(self.hidden(jnp.concatenate([x, c_noise[:, None]], axis=1))))

    graph, params = nnx.split(Small(nnx.Rngs(0)))
    net = lambda params, x, c_noise: nnx.merge(graph, params)(x, c_noise)
    model = score.preconditioned(net, 0.5)
    x, sigma = contract.inputs((2,), rows=8)[0], jnp.full(8, 0.7)
    np.testing.assert_allclose(model(params, x, sigma), -x / (0.5**2 + 0.7**2), rtol=1e-5)

    def loss(params):
        bound = functools.partial(model, params)
        return objectives.noise_conditional(bound, jax.random.key(0), x + 3.0, sigma).mean()

    before, grads = jax.jit(jax.value_and_grad(loss))(params)
    stepped = jax.tree.map(lambda p, g: p - 0.01 * g, params, grads)
    assert float(loss(stepped)) < float(before)


def test_every_parameter_learns_and_remat_changes_nothing():
    contract.check_remat(functools.partial(MLP, width=64, depth=4), (3,), batch=64)


@pytest.mark.parametrize("kind", ["classes", "vectors"])
def test_a_condition_is_of_its_own_example(kind):
    contract.check_condition(make, (3,), kind)

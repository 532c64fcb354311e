import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxscore import adversarial
from jaxscore.networks import DenseDiscriminator, Discriminator, discriminator
from tests.networks import contract

NETWORKS = {
    "images": (functools.partial(Discriminator, channels=4, multipliers=(1, 2), group=2), (4, 4, 2)),
    "dense": (functools.partial(DenseDiscriminator, width=8, group=2), (3,)),
}
ROWS = 4
both = pytest.mark.parametrize("name", NETWORKS)


def setup(name, **changes):
    """A network, its parameters, and a batch of two groups of two."""
    make, event = NETWORKS[name]
    x, c_noise = contract.inputs(event, ROWS)
    network = make(**changes)
    return network, contract.parameters(network, x, c_noise), x, c_noise


@both
def test_logits_are_float32_whatever_it_computes_in(name):
    full, params, x, c_noise = setup(name)
    half = setup(name, dtype=jnp.bfloat16)[0]
    a, b = jax.jit(full.apply)(params, x, c_noise), jax.jit(half.apply)(params, x, c_noise)
    assert a.shape == b.shape == (ROWS,)
    assert a.dtype == b.dtype == jnp.float32
    # bfloat16 keeps 8 bits, and there are up to six layers.
    assert 1e-4 < float(jnp.abs(a - b).max() / jnp.abs(a).max()) < 0.1


@both
def test_only_examples_of_a_group_are_seen_together(name):
    network, params, x, c_noise = setup(name)
    apply = jax.jit(network.apply)
    before, after = apply(params, x, c_noise), apply(params, x.at[3].multiply(3.0), c_noise)
    np.testing.assert_allclose(after[:2], before[:2], rtol=1e-5)  # the other group
    assert abs(float(after[2] - before[2])) > 1e-4  # its neighbour
    alone = setup(name, group=1)[0]
    before, after = (jax.jit(alone.apply)(params, y, c_noise) for y in (x, x.at[3].multiply(3.0)))
    np.testing.assert_allclose(after[:3], before[:3], rtol=1e-5)


@both
def test_the_noise_level_matters_where_it_is_told_one(name):
    """A discriminator that is not told one has no parameters for it."""
    network, params, x, c_noise = setup(name)
    apply = jax.jit(network.apply)
    assert float(jnp.abs(apply(params, x, c_noise) - apply(params, x, c_noise + 0.5)).min()) > 1e-4
    without = jax.eval_shape(network.init, jax.random.key(0), x)
    assert jax.tree.structure(without).num_leaves < jax.tree.structure(params).num_leaves
    assert jax.eval_shape(network.apply, without, x).shape == (ROWS,)


@both
def test_every_parameter_learns(name):
    network, params, x, c_noise = setup(name)
    logits = lambda params, x: network.apply(params, x, c_noise)
    loss = lambda params: adversarial.discriminator_loss(logits(params, x), logits(params, -2 * x)).mean()
    grads = jax.jit(jax.grad(loss))(params)
    scale = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads))
    for path, gradient in jax.tree_util.tree_leaves_with_path(grads):
        assert float(jnp.abs(gradient).max()) > 1e-6 * scale, jax.tree_util.keystr(path)


@both
def test_the_penaltys_gradient_is_the_difference_of_penalties(name, monkeypatch):
    """Differentiated twice, the root of the deviation too."""
    # LeakyReLU's slope, and so the penalty, jumps where a difference crosses a kink.
    monkeypatch.setattr(discriminator, "activation", jax.nn.softplus)
    network, params, x, c_noise = setup(name)
    logits = lambda params: lambda x: network.apply(params, x, c_noise)
    penalty = jax.jit(lambda params: adversarial.gradient_penalty(logits(params), x).mean())
    gradient = jax.jit(jax.grad(penalty))(params)
    norm = float(optax.tree.norm(gradient))
    moved = lambda h: jax.tree.map(lambda p, g: p + h * g / norm, params, gradient)
    # Steepest uphill, of length 1: h^2 of a third derivative, and rounding of 1e-7 / h.
    difference = (float(penalty(moved(1e-2))) - float(penalty(moved(-1e-2)))) / 2e-2
    assert norm == pytest.approx(difference, rel=0.01)


def test_each_further_multiplier_halves_the_sides():
    x, c_noise = contract.inputs((8, 16, 3))
    network = Discriminator(channels=4, multipliers=(1, 2, 4))
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, c_noise)["params"]
    assert sum(name.startswith("HalvingBlock") for name in shapes) == 2
    assert shapes["HalvingBlock_1"]["Conv_1"]["kernel"].shape == (3, 3, 16, 16)
    assert shapes["Conv_1"]["kernel"].shape == (3, 3, 17, 16)  # one channel of deviations
    with pytest.raises(ValueError, match="divisible by 4"):
        jax.eval_shape(network.init, jax.random.key(0), x[:, :6], c_noise)


def test_rematerialisation_changes_nothing():
    event = (4, 4, 2)
    x, c_noise = contract.inputs(event, ROWS)
    make = NETWORKS["images"][0]
    params = contract.parameters(make(), x, c_noise)
    value = lambda network: jax.jit(
        jax.value_and_grad(lambda params: jnp.mean(network.apply(params, x, c_noise) ** 2))
    )(params)
    a, b = value(make()), value(make(remat=True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), a, b)

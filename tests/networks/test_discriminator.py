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
    make, event = NETWORKS[name]
    contract.check_bfloat16(make, event)
    network, params, x, c_noise = setup(name)
    assert jax.eval_shape(network.apply, params, x, c_noise).shape == (ROWS,)


@both
def test_only_examples_of_a_group_are_seen_together(name):
    for group, unseen in ((2, 2), (1, 3)):
        network, params, x, c_noise = setup(name, group=group)
        apply = jax.jit(network.apply)
        before, after = apply(params, x, c_noise), apply(params, x.at[3].multiply(3.0), c_noise)
        np.testing.assert_allclose(after[:unseen], before[:unseen], rtol=1e-5)
        assert jnp.abs(after - before)[unseen:].min() > 1e-4


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
    contract.assert_all_learn(jax.jit(jax.grad(loss))(params))


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
    contract.check_remat(*NETWORKS["images"], batch=16, share=0.85)

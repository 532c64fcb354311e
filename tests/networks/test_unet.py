"""DDPM++ and NCSN++; tests/networks/test_parity.py holds them against the published networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore.networks import UNet
from jaxscore.networks.resampling import padded
from tests.networks import contract

make = functools.partial(UNet, channels=4, multipliers=(1, 2), attention=(1,))
NCSNPP = {"embedding": "fourier", "noise_multiplier": 2, "filter": (1, 3, 3, 1), "encoder": "residual"}


@pytest.mark.parametrize("check", contract.CHECKS)
def test_keeps_the_promises_of_a_network(check):
    contract.CHECKS[check](make, (4, 4, 2))


@pytest.mark.parametrize("event", [(8, 3), (4, 6, 3), (4, 2, 6, 1)])
def test_sequences_images_and_volumes_come_back_in_their_shape(event):
    """Every position reaches the output."""
    x, c_noise = contract.inputs(event, 1)
    network = UNet(channels=4, multipliers=(1, 2), **NCSNPP)
    params = contract.parameters(network, x, c_noise)
    total = lambda x: (network.apply(params, x, c_noise) ** 2).sum()
    slope = jax.jit(jax.grad(total))(x)
    assert slope.shape == x.shape
    assert (slope != 0).all()


@pytest.mark.parametrize(("event", "levels"), [((5, 4, 1), 2), ((6, 6, 1), 3), ((1, 1, 1), 3)])
def test_sides_that_do_not_halve_are_padded_inside(event, levels):
    """The output is that of the padded image, cut again."""
    x, c_noise = contract.inputs(event, 2)
    network = UNet(channels=4, multipliers=(1,) * levels)
    params = contract.parameters(network, x, c_noise)
    apply = jax.jit(network.apply)
    out, whole = apply(params, x, c_noise), apply(params, padded(x, 2 ** (levels - 1)), c_noise)
    np.testing.assert_allclose(out, whole[:, : event[0], : event[1]], rtol=1e-4, atol=1e-5)


def test_levels_have_the_channels_blocks_and_attention_asked_for():
    x, c_noise = contract.inputs((8, 8, 1))
    network = UNet(channels=8, multipliers=(1, 2, 4), blocks=2, attention=(0, 2))
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, c_noise)["params"]
    widths = {name: block["conv1"]["bias"].shape[0] for name, block in shapes.items() if "conv1" in block}
    down = {f"encoder{level}_{i}": 8 * 2**level for level in range(3) for i in range(2)}
    up = {f"decoder{level}_{i}": 8 * 2**level for level in range(3) for i in range(3)}
    between = {"down1": 8, "down2": 16, "middle0": 32, "middle1": 32, "up1": 32, "up0": 16}
    assert widths == down | up | between
    # On the way up the last block of a level attends.
    attending = {name for name, block in shapes.items() if "attention" in block}
    assert attending == {f"encoder{i}_{j}" for i in (0, 2) for j in (0, 1)} | {
        "middle0",
        "decoder0_2",
        "decoder2_2",
    }


def test_every_parameter_learns_and_remat_changes_nothing():
    contract.check_remat(make, (4, 4, 2))


@pytest.mark.parametrize("kind", contract.CONDITIONS)
def test_a_condition_is_of_its_own_example(kind):
    contract.check_condition(functools.partial(UNet, channels=4, multipliers=(1, 2)), (8, 8, 1), kind)


def test_frequencies_are_not_trained():
    x, c_noise = contract.inputs((4, 4, 1))
    network = UNet(channels=4, multipliers=(1,), **NCSNPP)
    params = contract.parameters(network, x, c_noise)
    grads = jax.jit(jax.grad(lambda params: (network.apply(params, x, c_noise) ** 2).sum()))(params)
    np.testing.assert_array_equal(grads["params"]["waves"]["frequencies"], jnp.zeros(4))

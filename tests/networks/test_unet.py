import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore.networks import UNet, unet
from jaxscore.networks.resampling import padded
from tests.networks import contract

make = functools.partial(UNet, channels=4, multipliers=(1, 2), attention=(1,))


@pytest.mark.parametrize("check", contract.CHECKS)
def test_keeps_the_promises_of_a_network(check):
    contract.CHECKS[check](make, (4, 4, 2))


def test_sides_and_channels_need_not_be_equal():
    x, c_noise = contract.inputs((4, 8, 3))
    network = make(multipliers=(1, 1, 2), attention=())
    out, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), x, c_noise)
    assert (out.shape, out.dtype) == (x.shape, jnp.float32)


@pytest.mark.parametrize(("event", "levels"), [((5, 4, 1), 2), ((6, 6, 1), 3), ((1, 1, 1), 3)])
def test_sides_that_do_not_halve_are_padded_inside(event, levels):
    """The output is that of the padded image, cut again; every pixel reaches it."""
    x, c_noise = contract.inputs(event)
    network = UNet(channels=8, multipliers=(1,) * levels)
    params = jax.jit(network.init)(jax.random.key(0), x, c_noise)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)  # the last layer starts at zero
    apply = jax.jit(network.apply)
    out, whole = apply(params, x, c_noise), apply(params, padded(x, 2 ** (levels - 1)), c_noise)
    np.testing.assert_allclose(out, whole[:, : event[0], : event[1]], rtol=1e-5)
    slope = jax.grad(lambda x: (apply(params, x, c_noise) ** 2).sum())(x)
    assert (slope != 0).all()


def test_levels_have_the_channels_blocks_and_attention_asked_for():
    x, c_noise = contract.inputs((8, 8, 1))
    network = UNet(channels=8, multipliers=(1, 2, 4), blocks=2, attention=(0, 2))
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, c_noise)["params"]
    widths = [
        shapes[f"ResidualBlock_{i}"]["Conv_0"]["kernel"].shape[-1]
        for i in range(sum(name.startswith("ResidualBlock") for name in shapes))
    ]
    # Two blocks on the way down, three on the way up.
    assert widths == [8, 8, 16, 16, 32, 32, 32, 32, 32, 16, 16, 16, 8, 8, 8]
    assert sum(name.startswith("SelfAttention") for name in shapes) == 5 + 5


def test_attention_is_softmax_attention_over_all_pixels():
    h = contract.inputs((2, 3, 8), rows=2)[0]
    attention = unet.SelfAttention()
    params = jax.jit(attention.init)(jax.random.key(0), h)
    apply = jax.jit(attention.apply)
    np.testing.assert_array_equal(apply(params, h), h)  # zero at first
    rng = np.random.default_rng(0)
    nudge = lambda leaf: leaf + rng.standard_normal(leaf.shape).astype(leaf.dtype)
    params = jax.tree.map(nudge, jax.device_get(params))["params"]

    # The same in NumPy: group norm of 2 groups of 4 channels, then one head.
    p = jax.tree.map(lambda leaf: np.asarray(leaf, float), params)
    x = np.asarray(h, float).reshape(2, 6, 2, 4)
    mean, var = x.mean(axis=(1, 3), keepdims=True), x.var(axis=(1, 3), keepdims=True)
    y = ((x - mean) / np.sqrt(var + 1e-6)).reshape(2, 6, 8)
    y = y * p["GroupNorm_0"]["scale"] + p["GroupNorm_0"]["bias"]
    q, k, v = np.split(y @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"], 3, axis=-1)
    logits = q @ k.transpose(0, 2, 1) / np.sqrt(8)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    out = weights @ v @ p["Dense_1"]["kernel"] + p["Dense_1"]["bias"]
    expected = np.asarray(h, float) + out.reshape(h.shape)
    np.testing.assert_allclose(apply({"params": params}, h), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("channels", "groups"), [(3, 1), (8, 2), (12, 3), (128, 32), (256, 32)])
def test_group_norm_has_groups_of_at_least_four(channels, groups):
    assert unet._norm(jnp.zeros((1, 2, 2, channels)), jnp.float32).num_groups == groups


def test_every_parameter_learns_and_remat_changes_nothing():
    contract.check_remat(make, (4, 4, 2))


@pytest.mark.parametrize("kind", contract.CONDITIONS)
def test_a_condition_is_of_its_own_example(kind):
    contract.check_condition(functools.partial(UNet, channels=4, multipliers=(1, 2)), (8, 8, 1), kind)

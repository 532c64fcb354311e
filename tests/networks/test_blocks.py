import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore.networks import ADM, DDPM, EDM2, DiT, UNet, blocks
from tests.networks import contract


def test_attention_is_softmax_attention_of_each_head():
    """Two heads of 4 channels, over the positions of a sequence; the same in NumPy."""
    h = contract.inputs((6, 8), rows=2)[0]
    attention = blocks.Attention(heads=2)
    params = contract.parameters(attention, h)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, float), params)["params"]
    x = np.asarray(h, float).reshape(2, 6, 2, 4)  # group norm has 2 groups
    mean, var = x.mean(axis=(1, 3), keepdims=True), x.var(axis=(1, 3), keepdims=True)
    y = ((x - mean) / np.sqrt(var + 1e-6)).reshape(2, 6, 8) * p["norm"]["scale"] + p["norm"]["bias"]
    qkv = (y @ p["qkv"]["kernel"] + p["qkv"]["bias"]).reshape(2, 6, 3, 2, 4)
    q, k, v = np.moveaxis(qkv, 2, 0)
    logits = np.einsum("bqhc,bkhc->bhqk", q, k) / 2
    weights = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    out = np.einsum("bhqk,bkhc->bqhc", weights, v).reshape(2, 6, 8) @ p["proj"]["kernel"] + p["proj"]["bias"]
    np.testing.assert_allclose(attention.apply(params, h), out, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("channels", "groups"), [(3, 1), (8, 2), (12, 3), (128, 32), (256, 32)])
def test_group_norm_has_groups_of_at_least_four(channels, groups):
    """Each group has mean 0 and variance 1."""
    h = contract.inputs((5, channels), rows=2)[0] + jnp.arange(channels)[None, None] / channels
    out, _ = blocks.GroupNorm().init_with_output(jax.random.key(0), h)
    grouped = np.asarray(out).reshape(2, 5, groups, -1)
    np.testing.assert_allclose(grouped.mean(axis=(1, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(grouped.var(axis=(1, 3)), 1, rtol=1e-3)


@pytest.mark.parametrize("event", [(7, 8), (3, 5, 12)])
def test_group_norm_is_that_of_flax_and_then_modulates(event):
    h = 3 + contract.inputs(event, rows=2)[0]
    norm, flax = blocks.GroupNorm(groups=4), nn.GroupNorm(4, epsilon=1e-6)
    params = contract.parameters(norm, h)
    expected = flax.apply(params, h)
    np.testing.assert_allclose(norm.apply(params, h), expected, atol=1e-5)
    scale, shift = (jax.random.normal(jax.random.key(i), (2, event[-1])) for i in (2, 3))
    each = lambda x: x.reshape(2, *(1,) * (len(event) - 1), -1)
    found = norm.apply(params, h, scale, shift)
    np.testing.assert_allclose(found, expected * (1 + each(scale)) + each(shift), atol=3e-5)
    low = blocks.GroupNorm(groups=4, dtype=jnp.bfloat16).apply(params, h.astype(jnp.bfloat16))
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(jnp.float32), expected, atol=0.05)


@pytest.mark.parametrize(("channels", "size", "n"), [(256, 64, 4), (200, 64, 2), (250, 64, 2), (13, 64, 1)])
def test_heads_divide_the_channels(channels, size, n):
    assert blocks.heads(channels, size) == n


@pytest.mark.parametrize("channels", [1, 5, 200])
def test_networks_take_any_number_of_channels(channels):
    x, c_noise = contract.inputs((5, 7, 2))
    for kind in (UNet, ADM, DDPM, EDM2):
        network = kind(channels=channels, multipliers=(1, 2), blocks=1, attention=(0, 1))
        out = jax.eval_shape(
            lambda key, network=network: network.init_with_output(key, x, c_noise)[0], jax.random.key(0)
        )
        assert out.shape == x.shape


@pytest.mark.parametrize("bias", [True, False])
def test_dense_is_that_of_flax_on_the_last_axis(bias):
    x = contract.inputs((4, 3, 5), rows=2)[0]
    ours, flax = blocks.Dense(6, use_bias=bias), nn.Dense(6, use_bias=bias)
    params = contract.parameters(ours, x)
    np.testing.assert_allclose(ours.apply(params, x), flax.apply(params, x), atol=1e-6)
    drawn = [layer.init(jax.random.key(0), x) for layer in (ours, flax)]
    jax.tree.map(np.testing.assert_array_equal, *drawn)


LEVELS = {"channels": 8, "multipliers": (1,), "blocks": 1, "attention": (0,)}


@pytest.mark.parametrize(
    "network",
    [*(kind(**LEVELS, flash=True) for kind in (UNet, ADM, DDPM, EDM2)), DiT(8, depth=1, heads=2, flash=True)],
    ids=lambda network: type(network).__name__,
)
def test_flash_chooses_the_kernels_of_every_attention(network, monkeypatch):
    asked, plain = [], jax.nn.dot_product_attention

    def recorded(*arrays, implementation):
        asked.append(implementation)
        return plain(*arrays)

    monkeypatch.setattr(jax.nn, "dot_product_attention", recorded)
    x, c_noise = contract.inputs((4, 4, 2))
    jax.eval_shape(network.init, jax.random.key(0), x, c_noise)
    assert set(asked) == {"cudnn"}
    asked.clear()
    jax.eval_shape(network.clone(flash=False).init, jax.random.key(0), x, c_noise)
    assert set(asked) == {"xla"}


def test_a_block_keeps_the_mean_of_its_branches():
    """The second convolution is zero at first, so the block is the skip branch times the scale."""
    h, embedding = contract.inputs((4, 4, 8), rows=2)[0], jnp.ones((2, 3))
    block = blocks.Block(8)
    params = block.init(jax.random.key(0), h, embedding, False)
    np.testing.assert_allclose(block.apply(params, h, embedding, False), h / np.sqrt(2), rtol=1e-6)

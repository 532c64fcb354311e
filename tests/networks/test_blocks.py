import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore.networks import blocks
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
    qkv = (y @ p["qkv"]["kernel"] + p["qkv"]["bias"]).reshape(2, 6, 2, 4, 3)
    q, k, v = np.moveaxis(qkv, -1, 0)
    logits = np.einsum("bqhc,bkhc->bhqk", q, k) / 2
    weights = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    out = np.einsum("bhqk,bkhc->bqhc", weights, v).reshape(2, 6, 8) @ p["proj"]["kernel"] + p["proj"]["bias"]
    np.testing.assert_allclose(attention.apply(params, h), out, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("channels", "groups"), [(3, 1), (8, 2), (12, 3), (128, 32), (256, 32)])
def test_group_norm_has_groups_of_at_least_four(channels, groups):
    """Each group has mean 0 and variance 1."""
    h = contract.inputs((5, channels), rows=2)[0] + jnp.arange(channels)[None, None] / channels
    apply = functools.partial(blocks.group_norm, dtype=jnp.float32, epsilon=1e-6)
    network = type("Norm", (blocks.nn.Module,), {"__call__": blocks.nn.compact(lambda self, h: apply(h))})()
    out, _ = network.init_with_output(jax.random.key(0), h)
    grouped = np.asarray(out).reshape(2, 5, groups, -1)
    np.testing.assert_allclose(grouped.mean(axis=(1, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(grouped.var(axis=(1, 3)), 1, rtol=1e-3)


def test_a_block_keeps_the_mean_of_its_branches():
    """The second convolution is zero at first, so the block is the skip branch times the scale."""
    h, embedding = contract.inputs((4, 4, 8), rows=2)[0], jnp.ones((2, 3))
    block = blocks.Block(8)
    params = block.init(jax.random.key(0), h, embedding, False)
    np.testing.assert_allclose(block.apply(params, h, embedding, False), h / np.sqrt(2), rtol=1e-6)

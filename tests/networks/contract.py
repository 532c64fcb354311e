"""What every network promises, as checks that the tests of the networks call."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import noise


def parameters(network, *arguments):
    """Parameters as after some training: no zeros left, scales near 1, kernels of unit gain.

    Made in NumPy, because a compiled initialisation costs more than all the tests that need one.
    """
    rng = np.random.default_rng(0)

    def fill(path, leaf):
        values = rng.standard_normal(leaf.shape)
        if path[-1].key == "kernel":
            values /= np.sqrt(np.prod(leaf.shape[:-1]))
        else:
            values = 0.1 * values + (path[-1].key == "scale")
        return jnp.asarray(values.astype(leaf.dtype))

    shapes = jax.eval_shape(network.init, jax.random.key(0), *arguments)
    return jax.tree_util.tree_map_with_path(fill, shapes)


def inputs(event, rows=3):
    return noise.normal(jax.random.key(1), (rows, *event)), jnp.linspace(-1.5, 1.0, rows)


def check_shape_and_zero_start(network, event):
    """So `preconditioned` starts at the score of a Gaussian: see test_score."""
    x, c_noise = inputs(event)
    params = jax.jit(network.init)(jax.random.key(0), x, c_noise)
    out = jax.jit(network.apply)(params, x, c_noise)
    np.testing.assert_array_equal(out, jnp.zeros_like(x), strict=True)


def check_bfloat16(make, event):
    x, c_noise = inputs(event)
    full, half = make(dtype=jnp.float32), make(dtype=jnp.bfloat16)
    params = parameters(half, x, c_noise)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    a, b = jax.jit(full.apply)(params, x, c_noise), jax.jit(half.apply)(params, x, c_noise)
    assert b.dtype == jnp.float32
    # It did compute in 8 bits, and lost no more than some of them: layers times 2^-8.
    difference = float(jnp.abs(a - b).max() / jnp.abs(a).max())
    assert 1e-4 < difference < 0.1


def check_dropout(make, event):
    x, c_noise = inputs(event)
    network = make(dropout=0.5)
    params = parameters(network, x, c_noise)
    with pytest.raises(Exception, match="dropout"):
        jax.eval_shape(lambda params: network.apply(params, x, c_noise, train=True), params)
    train = jax.jit(lambda key, x: network.apply(params, x, c_noise, train=True, rngs={"dropout": key}))
    evaluated = jax.jit(network.apply)(params, x, c_noise)
    np.testing.assert_allclose(
        evaluated, jax.jit(make(dropout=0.0).apply)(params, x, c_noise), rtol=1e-5, atol=1e-5
    )
    first, second = train(jax.random.key(0), x), train(jax.random.key(1), x)
    assert not np.allclose(first, evaluated, atol=1e-3)
    assert not np.allclose(first, second, atol=1e-3)

    # A trace needs one mask in the primal and in the tangent: then the tangent is a difference.
    key, h = jax.random.key(2), 1e-2
    v = noise.rademacher(jax.random.key(3), x.shape)
    again = lambda x: train(jax.random.clone(key), x)
    primal, tangent = jax.jit(lambda key, x, v: jax.jvp(lambda x: train(key, x), (x,), (v,)))(key, x, v)
    np.testing.assert_allclose(primal, again(x), rtol=1e-4, atol=1e-4)
    difference = (again(x + h * v) - again(x - h * v)) / (2 * h)
    # h^2 of a third derivative, and rounding 1e-7 / h; another mask would differ by about 1 of 1.
    scale = float(jnp.abs(tangent).max())
    np.testing.assert_allclose(tangent, difference, atol=0.02 * scale)


def check_no_coupling(network, event):
    x, c_noise = inputs(event)
    params = parameters(network, x, c_noise)
    apply = jax.jit(network.apply)
    out = apply(params, x, c_noise)
    others = apply(params, x.at[1:].multiply(-2.0), c_noise.at[1:].add(0.5))
    np.testing.assert_allclose(others[0], out[0], rtol=1e-5, atol=1e-5)
    assert not np.allclose(others[1], out[1], atol=1e-3)
    # The noise level alone makes a difference too.
    assert not np.allclose(apply(params, x, c_noise + 0.5)[0], out[0], atol=1e-3)


def assert_all_learn(grads):
    """A parameter whose gradient stays zero is not connected to the output."""
    largest = jax.tree.map(lambda gradient: float(jnp.abs(gradient).max()), grads)
    scale = max(jax.tree.leaves(largest))
    for path, size in jax.tree_util.tree_leaves_with_path(largest):
        assert size > 1e-6 * scale, jax.tree_util.keystr(path)


def check_latent(network, event):
    """A latent of an example's own changes what comes of it; without one nothing is there for it."""
    x, c_noise = inputs(event)
    z = noise.normal(jax.random.key(2), (3, 5))
    shapes = lambda *more: jax.eval_shape(network.init, jax.random.key(0), x, c_noise, *more)["params"]
    assert set(shapes(None, z)) == set(shapes()) | {"Mapping_0"}
    with_latent = lambda params, z: network.apply(params, x, c_noise, None, z)
    params = parameters(network, x, c_noise, None, z)
    apply = jax.jit(with_latent)
    out, others = apply(params, z), apply(params, z.at[0].multiply(-1.0))
    np.testing.assert_allclose(others[1:], out[1:], rtol=1e-5, atol=1e-5)
    assert not np.allclose(others[0], out[0], atol=1e-3)


CONDITIONS = {
    "classes": ({"classes": 3}, jnp.array([0, 1, 2]), 3),
    "vectors": ({}, jnp.ones((3, 4)), -1.0),
    "images": ({}, jnp.ones((3, 8, 8, 2)), -1.0),
}
"""Options of the network, a condition of three examples, and another value of it."""


def check_condition(make, event, kind):
    """A condition of an example's own changes its output alone; without one nothing is there for it."""
    options, condition, other = CONDITIONS[kind]
    network, (x, c_noise) = make(**options), inputs(event)
    params = parameters(network, x, c_noise, condition)
    apply = jax.jit(lambda params, condition: network.apply(params, x, c_noise, condition))
    out, others = apply(params, condition), apply(params, condition.at[0].set(other))
    assert out.shape == x.shape
    np.testing.assert_allclose(others[1:], out[1:], rtol=1e-5, atol=1e-5)
    assert not np.allclose(others[0], out[0], atol=1e-3)
    without = jax.tree.leaves(jax.eval_shape(network.init, jax.random.key(0), x, c_noise))
    sizes = [sum(leaf.size for leaf in leaves) for leaves in (without, jax.tree.leaves(params))]
    # A U-Net that knows classes has their layer whether or not it is given one.
    assert sizes[0] <= sizes[1] if kind == "classes" else sizes[0] < sizes[1]


CHECKS = {
    "bfloat16": check_bfloat16,
    "dropout": check_dropout,
    "no coupling": lambda make, event: check_no_coupling(make(), event),
    "latent": lambda make, event: check_latent(make(), event),
    "zero start": lambda make, event: check_shape_and_zero_start(make(), event),
}


def check_remat(make, event, batch=8, share=0.6):
    """Every parameter learns; `remat` changes nothing and keeps this share of the bytes for the gradient."""
    x, c_noise = inputs(event, batch)
    kept, again = make(remat=False), make(remat=True)
    params = parameters(kept, x[:1], c_noise[:1])
    assert jax.tree.structure(params) == jax.tree.structure(parameters(again, x[:1], c_noise[:1]))
    found = {}
    for network in (kept, again):
        loss = lambda params, network=network: jnp.mean(network.apply(params, x, c_noise) ** 2)
        # The pullback is a tree of what it keeps. (The compiled program's memory on a CPU says nothing:
        # its scheduler computes everything at the earliest moment.)
        pullback = jax.eval_shape(lambda params, loss=loss: jax.vjp(loss, params)[1], params)
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pullback))
        found[network.remat] = jax.jit(jax.value_and_grad(loss))(params), size
    (a, much), (b, little) = found[False], found[True]
    assert_all_learn(a[1])
    chex.assert_trees_all_close(a, b, rtol=1e-4, atol=1e-5)
    assert little < share * much, (little, much)

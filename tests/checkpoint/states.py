"""Small training states, and checks of them."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxscore import checkpoint, trainer

PARAMS = {
    "kernel": np.linspace(-1, 1, 16 * 24, dtype=np.float32).reshape(16, 24),
    "bias": np.ones(3, np.float32),
}
"""A leaf to be split over devices, and one that cannot be. In NumPy: importing it starts no device."""


def make_state(step=0, scale=1.0, params=None, profiles=0):
    params = params or {
        "dense": {"kernel": jnp.arange(6.0).reshape(2, 3) / 7, "bias": jnp.ones(3)},
        "half": jnp.arange(5, dtype=jnp.bfloat16) / 3,
    }
    state = trainer.init_state(jax.random.key(0), lambda key: params, optax.adam(1e-3), profiles=profiles)
    scaled = lambda leaf: leaf * jnp.asarray(scale, leaf.dtype)
    return jax.tree.map(scaled, state)._replace(step=jnp.asarray(step, jnp.int32))


def abstract(state):
    return jax.eval_shape(lambda: state)


def save_three(folder):
    """The steps 1, 2 and 3, each with its number as scale and as what is said about it."""
    with checkpoint.manager(folder, keep=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoint.save(checkpoints, make_state(step, scale=step), about={"step": step})
    return folder


def assert_identical(a, b):
    """The same tree with the same bits in every leaf."""
    chex.assert_trees_all_equal_shapes_and_dtypes(a, b)
    bits = lambda leaf: np.frombuffer(np.asarray(leaf).tobytes(), np.uint8)
    chex.assert_trees_all_equal(jax.tree.map(bits, a), jax.tree.map(bits, b))

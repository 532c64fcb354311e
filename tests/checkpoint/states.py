"""Small training states, and checks of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxscore import trainer

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


def assert_identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, two in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert one.dtype == two.dtype
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()


def contents(folder):
    """Every file below the folder, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def steps_in(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())

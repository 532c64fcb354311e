"""Random numbers that belong to a row of the batch.

Row i depends on (key, i) alone: not on the batch size, and not on the number of devices or processes.
"""

import math

import jax
import jax.numpy as jnp

from jaxscore.types import Array, Key


def typed(key: Key) -> Key:
    """Returns one key, or an array of keys, of threefry; raw keys of `jax.random.PRNGKey` are taken too.

    Keys of rbg give the threefry key that they contain, because numbers drawn by rbg for many rows at once
    are not those drawn row by row: a sample would depend on the batch.
    """
    if not hasattr(key, "dtype"):
        raise ValueError(f"a key is needed, not {key!r}; make it with jax.random.key(seed)")
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.dtype != jnp.uint32 or key.shape[-1:] not in ((2,), (4,)):
            made = "make it with jax.random.key(seed)"
            raise ValueError(f"a key is needed, not {key.dtype}{list(key.shape)}; {made}")
        return jax.random.wrap_key_data(key[..., :2], impl=_IMPL)
    if str(jax.random.key_impl(key)) == _IMPL:
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key)[..., :2], impl=_IMPL)


_IMPL = "threefry2x32"


def row_keys(key: Key, n: int, *, start: int | Array = 0) -> Key:
    """n keys, one per row: `key` folded with the global row numbers start, ..., start + n - 1.

    An array of keys already has one key per row and is returned unchanged; see `typed` for other keys.

    Raises ValueError if its length is not n.
    """
    key = typed(key)
    if key.ndim:
        if len(key) != n:
            raise ValueError(f"{len(key)} keys for {n} rows: give one key, or one for each row")
        return key
    return jax.vmap(jax.random.fold_in, (None, 0))(key, start + jnp.arange(n))


def fold_in(key: Key, number: int | Array) -> Key:
    """`jax.random.fold_in`, for one key or for an array of keys."""
    key = typed(key)
    if key.ndim:
        return jax.vmap(jax.random.fold_in, (0, None))(key, number)
    return jax.random.fold_in(key, number)


def normal(key: Key, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    """Standard normals of the given shape; row i depends on the key and on i alone."""
    draw = lambda key: jax.random.normal(key, shape[1:], dtype)
    return jax.vmap(draw)(row_keys(key, shape[0]))


def rademacher(key: Key, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    """Independent signs -1 and +1, each with probability 1/2; row i depends on the key and on i alone."""
    draw = lambda key: jax.random.rademacher(key, shape[1:], dtype)
    return jax.vmap(draw)(row_keys(key, shape[0]))


def sphere(key: Key, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    """Uniform on the sphere of radius sqrt(D) in the D dimensions of the event, so that E[v v'] = I.

    Row i depends on the key and on i alone. Unit vectors would shrink a trace estimate by the factor D.
    """
    z = normal(key, shape, dtype)
    event = tuple(range(1, len(shape)))
    return z * jnp.sqrt(math.prod(shape[1:]) / jnp.sum(z**2, axis=event, keepdims=True))

"""The oracle: data N(0, S0^2 I) in two dimensions, whose consistency function is known; a small network."""

import jax
import jax.numpy as jnp

from jaxscore.types import right

S0, SIGMA_MIN, SIGMA_MAX = 0.7, 0.01, 20.0


def exact(x, sigma):
    """The end of the probability flow at SIGMA_MIN."""
    ratio = jnp.sqrt((S0**2 + SIGMA_MIN**2) / (S0**2 + sigma**2))
    return x * right(ratio, x)


def score(x, sigma):
    return -x / right(S0**2 + sigma**2, x)


def network(params, x, c_noise):
    """Two dense layers of 64 units, and an output layer that is zero at first."""
    h = jnp.concatenate([x, c_noise[:, None]], axis=1)
    for w, b in params[:-1]:
        h = jax.nn.silu(h @ w + b[None])
    w, b = params[-1]
    return h @ w + b[None]


def init(key):
    sizes = (3, 64), (64, 64), (64, 2)
    keys, scales = jax.random.split(key, 3), (0.7, 0.15, 0.0)
    return [
        (scale * jax.random.normal(k, size), jnp.zeros(size[1]))
        for k, size, scale in zip(keys, sizes, scales, strict=True)
    ]

"""The types that everything else is written in, and `right`, the one broadcasting helper.

>>> import jax.numpy as jnp
>>> right(jnp.array([1.0, 2.0]), jnp.zeros((2, 8, 8, 1))).shape
(2, 1, 1, 1)
"""

from collections.abc import Callable
from typing import Any

import jax
import jaxtyping
import numpy as np
from jax.typing import DTypeLike as DTypeLike

Array = jax.Array
AnyArray = jax.Array | np.ndarray
Key = jaxtyping.Key[jax.Array, "..."]
"""One PRNG key, or an array of keys, one per row of the batch."""

Params = Any
"""The parameters of a network: any pytree of arrays."""

ScoreFn = Callable[[Array, Array], Array]
"""score(x[b, ...], sigma[b]) -> [b, ...], an estimate of grad_x log p_sigma(x)."""

NetFn = Callable[[Params, Array, Array], Array]
"""net(params, x[b, ...], c_noise[b]) -> [b, ...]: the raw network inside a score."""

Schedule = Callable[[Array], Array]
"""A noise schedule: the quantile function u in [0, 1] -> sigma, increasing in u."""


def right(values: AnyArray, like: AnyArray) -> AnyArray:
    """Append trailing axes of length 1 to `values`, until it has as many as `like`."""
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))

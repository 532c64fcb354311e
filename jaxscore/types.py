"""The types in which everything else is written, and `right`, the one broadcasting helper.

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
"""One PRNG key, or an array of keys, one for each row of the batch."""

Params = Any
"""The parameters of a network: any pytree of arrays."""

Batch = dict[str, Any]
"""A batch of training data: arrays by name, each with the rows first; `x` is the example itself."""

Condition = Any
"""What a score is conditioned on: any pytree of arrays with the rows first, or None.

Class numbers [b] (the number n_classes means "no class"), vectors [b, n], or images [b, h, w, c].
"""

NetFn = Callable[..., Array]
"""net(params, x[b, ...], c_noise[b], condition=None, *, train=False, rngs=None) -> like x.

The raw network inside a score. A network that takes no condition may leave the last arguments out.
"""

ParametricScore = Callable[..., Array]
"""score(params, x[b, ...], sigma[b], condition=None) -> like x: a score before its parameters are bound."""

ScoreFn = Callable[[Array, Array], Array]
"""score(x[b, ...], sigma[b]) -> like x, an estimate of grad_x log p_sigma(x).

Parameters and condition are bound by functools.partial. Objectives, samplers and likelihoods see this type.
"""

Schedule = Callable[[Array], Array]
"""A noise schedule: the quantile function u in [0, 1] -> sigma, increasing in u."""


def right(values: AnyArray, like: AnyArray) -> AnyArray:
    """Returns `values` with trailing axes of length 1, as many axes as `like` has."""
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))


def shaped(score: ScoreFn) -> ScoreFn:
    """Returns the score, which raises ValueError if its shape is not that of x: it would be broadcast."""

    def checked(x: Array, sigma: Array, *rest: Array) -> Array:  # a GAN's generator also takes a latent
        s = score(x, sigma, *rest)
        if s.shape != x.shape:
            raise ValueError(f"the score has shape {s.shape}, and x has shape {x.shape}; they must be equal")
        return s

    return checked

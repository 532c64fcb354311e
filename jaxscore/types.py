"""The types in which everything else is written, and `right`, the one broadcasting helper.

>>> import jax.numpy as jnp
>>> right(jnp.array([1.0, 2.0]), jnp.zeros((2, 8, 8, 1))).shape
(2, 1, 1, 1)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
from jax.typing import ArrayLike
from jax.typing import DTypeLike as DTypeLike

Array = jax.Array
AnyArray = jax.Array | np.ndarray
Key = jaxtyping.Key[jax.Array, "..."] | jaxtyping.UInt32[jax.Array, "*n words"]
"""One PRNG key, or an array of keys, one for each row of the batch; see `noise.typed` for raw keys."""

Sigma = ArrayLike
"""Noise levels [b], one for each row, or one number for all rows; see `per_row`."""

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


def wide(x: AnyArray) -> Array:
    """Returns x in float32, or in its own type if that is wider: sums in 16 bits lose what is small."""
    return jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))


def per_row(values: ArrayLike, x: AnyArray, name: str = "sigma") -> Array:
    """Returns the value of each row of x, [b], in the type of x; one number stands for all rows.

    If x has integers, the values are float32.

    Raises ValueError, which has the name, for values of another shape: they would be broadcast.
    """
    values = jnp.asarray(values, _fractional(x))
    if values.shape not in ((), x.shape[:1]):
        need = f"it must be one number, or one for each row, {x.shape[:1]}"
        raise ValueError(f"{name} has shape {values.shape}, and x has shape {x.shape}; {need}")
    return jnp.broadcast_to(values, x.shape[:1])


def alike(output: Array, x: AnyArray, name: str) -> Array:
    """Returns the output in the type of x, or in float32 if x has integers.

    Raises ValueError, which has the name, unless the shapes agree.
    """
    if output.shape != x.shape:
        need = f"and x has shape {x.shape}; they must be equal"
        raise ValueError(f"the {name} has shape {output.shape}, {need}")
    return output.astype(_fractional(x))


def _fractional(x: AnyArray) -> Any:
    return x.dtype if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.float32


def shaped(score: ScoreFn, name: str = "score") -> ScoreFn:
    """Returns the score for x of any type and for one noise level, [b] or a number; see `wide` and `per_row`.

    The result has the type of x. Raises ValueError, with the name, if its shape is not that of x, or if the
    shape of sigma fits no row: they would be broadcast.
    """

    def checked(x: AnyArray, sigma: Sigma, *rest: Array) -> Array:  # a GAN's generator also takes a latent
        given = wide(x)
        return alike(score(given, per_row(sigma, given), *rest), x, name)

    return checked

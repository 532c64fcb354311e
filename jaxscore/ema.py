"""Exponential moving averages of the parameters: what is sampled from is the average.

>>> import jax.numpy as jnp
>>> decay = constant(0.999)
>>> [round(float(decay(jnp.asarray(n))), 4) for n in (0, 90, 100_000)]
[0.1, 0.91, 0.999]
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxscore.types import Array, Params

Decay = Callable[[Array], Array]


def constant(decay: float, *, warm_up: bool = True) -> Decay:
    """The decay m at update n: min(m, (1 + n) / (10 + n)) with warm-up, m without.

    m = 0.999 in Song & Ermon 2020 (technique 5). The warm-up lets the average forget the random
    start within a tenth of the updates so far. Raises ValueError unless 0 <= decay < 1.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay = {decay} must lie in [0, 1)")
    if not warm_up:
        return lambda n: jnp.asarray(decay)
    return lambda n: jnp.minimum(decay, (1 + n) / (10 + n))


def update(average: Params, params: Params, decay: float | Array) -> Params:
    """decay * average + (1 - decay) * params, leaf by leaf, each in the average's own dtype."""
    mix = lambda old, new: (decay * old + (1 - decay) * new).astype(old.dtype)
    return jax.tree.map(mix, average, params)

"""Arrays of real numbers, as metrics compute with them."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxscore.types import AnyArray


def real(x: AnyArray, name: str) -> Float[np.ndarray, "..."]:
    """Returns the array in float64. Raises ValueError, which names it, for what float64 does not hold."""
    if isinstance(x, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array; leave the masked rows out")
    x = np.asarray(x)
    if x.dtype.kind not in "iu" and not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{name} is an array of {x.dtype}; give real numbers")
    if x.dtype.kind in "iu" and x.size and max(abs(int(x.min())), abs(int(x.max()))) > 2**53:
        raise ValueError(f"{name} has integers beyond 2^53, which float64 cannot tell apart")
    return x.astype(float)


def refuse(bad: Bool[np.ndarray, "n ..."]) -> None:
    """Raises ValueError if a simulation has a bad value."""
    if count := int(bad.reshape(len(bad), -1).any(axis=1).sum()):
        what = "simulations have values that are not finite"
        raise ValueError(f"{count} of {len(bad)} {what}; drop them, as training did")

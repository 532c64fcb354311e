"""What all methods share: checks of the measurement, the denoised mean, and its residual."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxscore.inverse.operators.linear import Operator, require_adjoint, solve
from jaxscore.types import AnyArray, Array, ScoreFn, Sigma, per_row, right

Batch = Float[Array, "b *event"]
Measurement = AnyArray
"""The data y: one measurement [*measurement] for all rows, or one for each row, [b, *measurement]."""


def rows(y: Measurement, predicted: Array) -> Array:
    """Returns y with the rows of the predicted measurement A x. Raises ValueError if y has another shape."""
    if jnp.iscomplexobj(y) or jnp.iscomplexobj(predicted):
        raise ValueError("the measurement y is complex; give its real and imaginary part, stacked")
    y = jnp.asarray(y, predicted.dtype)
    if y.shape not in (predicted.shape, predicted.shape[1:]):
        need = f"it must be {predicted.shape[1:]}, or {predicted.shape} with one for each row"
        raise ValueError(f"the measurement y has shape {y.shape}; for this operator and x {need}")
    return y if y.ndim == predicted.ndim else y[None]


def residual_of(operator: Operator, y: Measurement, x: Array) -> Array:
    """Returns y - A x for each row of x. Raises ValueError if y has not the shape of A x."""
    predicted = operator.apply(x)
    return rows(y, predicted) - predicted


def event_of(operator: Operator, y: Measurement) -> tuple[int, ...]:
    """Returns the shape of an example, which is what the adjoint makes of y[*measurement].

    Raises ValueError if the operator is not linear, or if its adjoint does not take y.
    """
    if operator.adjoint is None:
        raise ValueError("the operator is not linear, so it does not say what an example is: give event=")
    try:
        return jax.eval_shape(operator.adjoint, jnp.asarray(y, jnp.float32)[None]).shape[1:]
    except (TypeError, ValueError):
        what = "is not one measurement of this operator: its adjoint does not take it"
        raise ValueError(f"the measurement y has shape {jnp.shape(y)}; that {what}") from None


def require(operator: Operator, noise: float | Array, what: str) -> None:
    """Raises ValueError if the operator is not linear, or if the noise is negative or too small for it."""
    require_adjoint(operator, what)
    require_noise(noise)
    if value(noise) == 0 and operator.solve is None:
        remedy = "give a small noise, or operators.factored(operator, event)"
        raise ValueError(f"noise = 0, and the operator is solved by conjugate gradients: {remedy}")


def require_noise(noise: float | Array) -> None:
    """Raises ValueError unless noise is one number >= 0. Inside jit a traced noise is not checked."""
    if jnp.ndim(noise) or (value(noise) is not None and not 0 <= value(noise) < np.inf):
        raise ValueError(
            f"noise = {noise} must be one number >= 0, the standard deviation of the measurement"
        )


def value(noise: float | Array) -> float | None:
    """Returns the noise as a number, or None if it is traced."""
    return None if isinstance(noise, jax.core.Tracer) else float(np.asarray(noise))


class Denoised(NamedTuple):
    """The score and the denoised mean D = x + sigma^2 s at x, and the pull-back of D."""

    score: Array
    mean: Array
    pull: Callable[[Array], Array]
    """pull(v) = (dD/dx)' v, by one vector-Jacobian product of the score."""


def denoised(score: ScoreFn, x: Array, sigma: Array) -> Denoised:
    """Returns the score at x and what follows from it."""
    s, back = jax.vjp(lambda x: score(x, sigma), x)
    variance = right(sigma, x) ** 2
    return Denoised(s, x + variance * s, lambda v: v + back(variance * v)[0])


def spread(sigma: Sigma, sigma_data: float | Array) -> Array:
    """r^2 = sigma^2 sigma_data^2 / (sigma^2 + sigma_data^2), the variance of x0 given x if x0 is Gaussian.

    Raises ValueError unless sigma_data is one number above 0.
    """
    if jnp.ndim(sigma_data) or (value(sigma_data) is not None and not 0 < value(sigma_data) < np.inf):
        raise ValueError(f"sigma_data = {sigma_data} must be one number above 0")
    return sigma**2 / (1 + (sigma / sigma_data) ** 2)


def whitened(operator: Operator, variance: Array, noise: float | Array, residual: Array) -> Array:
    """(r^2 A A' + noise^2 I)^-1 residual, with the variance r^2 of each row."""
    variance = per_row(variance, residual, "variance")
    return solve(operator, noise**2 / variance, residual) / right(variance, residual)

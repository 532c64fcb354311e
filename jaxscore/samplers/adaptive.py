"""The probability flow by a solver that chooses the levels by itself, for each example by its own error.

    solution = adaptive(x, score, sigma_max=80.0, sigma_min=0.002, rtol=1e-3, atol=1e-3)
    solution.x, solution.evaluations                                     # [b, *event] and [b]

It has a loop of its own, because the levels are not given. It needs diffrax, of the extra `solvers`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxscore.types import Array, ScoreFn, right, shaped, wide

State = Any
"""A pytree of arrays with the rows first, such as x alone."""

Field = Callable[[State, Float[Array, "b"]], State]
"""field(state, sigma[b]) -> d state / d ln sigma."""

SHORTEST = 1e-6
"""Length of a step, in ln sigma, below which a row gives up: its score is not finite, or too steep."""


class Solution(NamedTuple):
    """What an adaptive solver returns."""

    x: Float[Array, "b *event"] | State
    """The end of each row; NaN where the solver has not arrived within `max_steps`."""
    evaluations: Int[Array, "b"]
    """How often the score was needed, for each row."""


def adaptive(
    x: Float[Array, "b *event"],
    score: ScoreFn,
    *,
    sigma_max: float,
    sigma_min: float,
    rtol: float = 1e-3,
    atol: float = 1e-3,
    max_steps: int = 1000,
) -> Solution:
    """Takes x from sigma_max to sigma_min along the probability flow, then denoises it by Tweedie's formula.

        dx / d ln sigma = -sigma^2 s(x, sigma)

    It is solved by Tsit5, a Runge-Kutta method of order 5 with six evaluations per step. The steps keep the
    estimated error of a row below atol + rtol |x|, in root mean square over its numbers. Each row has its own
    steps, so its result does not depend on the other rows. The score is called with the whole batch, and rows
    that have arrived wait for the others.

    Args:
        x: at level sigma_max, as `prior` draws it.
        score: the score, with parameters and condition bound.
        sigma_max, sigma_min: first and last level.
        rtol, atol: tolerances; useful values of atol are far below the standard deviation of the data.
        max_steps: after which a row ends as NaN.

    Raises:
        ValueError: unless 0 < sigma_min < sigma_max and the tolerances are positive, and not both below the
            resolution of x's type; and if x is known not to be finite.
        ImportError: without diffrax.
    """
    require_range(sigma_min, sigma_max)
    narrow = x.dtype if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.float32
    score, x = shaped(score), wide(x)
    field = lambda x, sigma: -(right(sigma, x) ** 2) * score(x, sigma)
    solution = solve(field, x, sigma_max, sigma_min, rtol=rtol, atol=atol, max_steps=max_steps)
    end = solution.x + sigma_min**2 * score(solution.x, sigma_min)
    return Solution(end.astype(narrow), solution.evaluations + 1)


def require_range(sigma_min: float, sigma_max: float) -> None:
    """Raises ValueError unless 0 < sigma_min < sigma_max < infinity."""
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"need 0 < sigma_min < sigma_max, not {sigma_min} and {sigma_max}")


def solve(
    field: Field, x: State, start: float, end: float, *, rtol: float, atol: float, max_steps: int
) -> Solution:
    """Returns the solution of dx / d ln sigma = field(x, sigma) from sigma = start to end, row by row.

    x is a pytree of arrays. The error is the largest of its arrays' errors, each in root mean square.
    """
    _check(x, rtol, atol, max_steps)
    try:
        import diffrax
        import equinox
    except ImportError as error:
        raise ImportError("adaptive solvers need diffrax: pip install 'jaxscore[solvers]'") from error

    first = jax.tree.leaves(x)[0]
    sigma = jnp.full(len(first), start, first.dtype)
    slope, arrays = _by_row(equinox.filter_closure_convert(field, x, sigma))
    control = diffrax.PIDController(rtol, atol, norm=_largest, dtmin=SHORTEST, force_dtmin=False)

    def one(x):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, x, arrays: slope(arrays, x, t)),
            diffrax.Tsit5(),
            jnp.log(jnp.asarray(start, first.dtype)),
            jnp.log(jnp.asarray(end, first.dtype)),
            None,
            x,
            arrays,
            stepsize_controller=control,
            adjoint=diffrax.ForwardMode(),
            max_steps=max_steps,
            throw=False,
        )

    found = jax.vmap(one)(x)
    arrived = found.result == diffrax.RESULTS.successful
    x = jax.tree.map(lambda y: jnp.where(right(arrived, y[:, 0]), y[:, 0], jnp.nan), found.ys)
    return Solution(x, 1 + 6 * found.stats["num_steps"])


def _largest(error: State) -> Array:
    return jnp.max(jnp.stack([jnp.sqrt(jnp.mean(leaf**2)) for leaf in jax.tree.leaves(error)]))


def _check(x: State, rtol: float, atol: float, max_steps: int) -> None:
    if not (rtol > 0 and atol > 0):
        raise ValueError(f"need positive tolerances, not {rtol} and {atol}")
    if max_steps < 1:
        raise ValueError(f"max_steps = {max_steps} must be at least 1")
    kind = jax.tree.leaves(x)[0].dtype
    resolution = float(jnp.finfo(kind).eps)
    if max(rtol, atol) < resolution:
        remedy = "choose larger ones" + ("" if kind == jnp.float64 else ", or x in float64")
        what = f"the tolerances {rtol:g} and {atol:g} are below the resolution of {kind}, {resolution:.1g}"
        raise ValueError(f"{what}: {remedy}")
    for leaf in jax.tree.leaves(x):
        if not isinstance(leaf, jax.core.Tracer):
            fine = np.isfinite(np.asarray(leaf)).reshape(len(leaf), -1).all(axis=1)
            if not fine.all():
                raise ValueError(f"x is not finite in row {int(np.argmin(fine))}")


def _by_row(field: Any) -> tuple[Callable[..., Array], Any]:
    """Returns slope(arrays, x, log_sigma) of one row, and the arrays inside the field, which it is given.

    Within vmap over rows, it calls the field once for all of them, because a condition belongs to the batch.
    """
    import equinox

    arrays, rest = equinox.partition(field, equinox.is_array)

    @jax.custom_batching.custom_vmap
    def slope(arrays, x, log_sigma):
        return jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), x)  # gives the shapes alone

    @slope.def_vmap
    def slopes(rows, batched, arrays, x, log_sigma):
        log_sigma = log_sigma if batched[2] else jnp.full(rows, log_sigma)
        found = equinox.combine(arrays, rest)(x, jnp.exp(log_sigma))
        return found, jax.tree.map(lambda _: True, found)

    return slope, arrays

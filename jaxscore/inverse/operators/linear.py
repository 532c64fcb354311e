"""Operators in general: what one is, linear functions and matrices, composition, and solving."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxscore import noise
from jaxscore.types import AnyArray, Array, Key, Sigma, per_row, right, wide


class Operator(NamedTuple):
    """A measurement A of x, as pure functions of a batch; the data are y = A x + noise z, z ~ N(0, I).

    `adjoint` is None for an operator that is not linear. `solve` is None where there is no cheap one; the
    function `solve` then takes conjugate gradients.
    """

    apply: Callable[[Array], Array]
    """apply(x[b, *event]) -> A x, [b, *measurement]."""
    adjoint: Callable[[Array], Array] | None = None
    """adjoint(y[b, *measurement]) -> A' y, [b, *event]."""
    solve: Callable[[Array, Array], Array] | None = None
    """solve(c[b], y[b, *measurement]) -> (A A' + c I)^-1 y; at c = 0 the pseudo-inverse of A A'."""


NEGLIGIBLE = 1e-6
"""Eigenvalues of A A' below this fraction of the largest count as zero where c = 0."""

ITERATIONS = 200
"""Conjugate gradients stop here at the latest, and at a residual of TOLERANCE."""

TOLERANCE = 1e-6


def linear(function: Callable[[Array], Array], event: tuple[int, ...]) -> Operator:
    """Returns the operator of any linear function of a batch, function(x[b, *event]) -> [b, *measurement].

    The adjoint is the function's transpose, by `jax.linear_transpose`.

    Raises ValueError if a test with random vectors finds that the function is not linear, or that a row of
    its result depends on other rows.
    """
    _require_linear(function, event)

    def adjoint(y: Array) -> Array:
        like = jax.ShapeDtypeStruct((len(y), *event), y.dtype)
        return jax.linear_transpose(function, like)(y)[0]

    return Operator(function, adjoint)


def _require_linear(function: Callable[[Array], Array], event: tuple[int, ...]) -> None:
    u, v = noise.normal(jax.random.key(0), (2, *event)), noise.normal(jax.random.key(1), (2, *event))
    of_u, of_v = function(u), function(v)
    found, expected = function(2.0 * u - 3.0 * v), 2.0 * of_u - 3.0 * of_v
    scale = 1e-4 * float(jnp.abs(expected).max())
    if not jnp.allclose(found, expected, rtol=0.0, atol=scale):
        away = float(jnp.abs(found - expected).max())
        what = f"A(2u - 3v) is {away:.2g} away from 2 A(u) - 3 A(v) for random u, v"
        raise ValueError(f"the operator is not linear: {what}")
    if of_u.shape[:1] != (2,) or not jnp.allclose(of_u[:1], function(u[:1]), rtol=0.0, atol=scale):
        raise ValueError("the operator mixes rows: it must map x[b, ...] row by row to [b, ...]")


def check(operator: Operator, event: tuple[int, ...]) -> None:
    """Raises ValueError unless the operator is linear with the right adjoint, for events of this shape.

    The tests take random vectors: A(2u - 3v) = 2 A(u) - 3 A(v), and <A u, w> = <u, A' w>.
    """
    require_adjoint(operator, "this check")
    _require_linear(operator.apply, event)
    u = noise.normal(jax.random.key(0), (1, *event))
    y = operator.apply(u)
    w = noise.normal(jax.random.key(2), y.shape)
    if (back := operator.adjoint(w)).shape != u.shape:
        raise ValueError(f"the adjoint returns {back.shape[1:]}, and an event has shape {tuple(event)}")
    one, other = float(jnp.vdot(y, w)), float(jnp.vdot(u, back))
    if abs(one - other) > 1e-4 * float(jnp.linalg.norm(y) * jnp.linalg.norm(w)):
        raise ValueError(f"the adjoint is wrong: <A u, w> = {one:.6g} and <u, A' w> = {other:.6g}")


def require_adjoint(operator: Operator, what: str) -> None:
    """Raises ValueError, which says what needs it, if the operator is not linear."""
    if operator.adjoint is None:
        raise ValueError(f"the operator has no adjoint, so it is not linear; {what} needs a linear one")


def matrix(a: Float[AnyArray, "m d"], event: tuple[int, ...] | None = None) -> Operator:
    """Returns the operator of a matrix: y = a x, x flattened if an event of d numbers is no vector.

    `solve` takes the eigenvalues of a a'. Raises ValueError if the event has not d numbers.
    """
    m, d = a.shape
    event = (d,) if event is None else tuple(event)
    if math.prod(event) != d:
        raise ValueError(f"the matrix has shape {(m, d)}; an event of shape {event} needs {math.prod(event)}")
    if not isinstance(a, jax.core.Tracer):
        a = np.asarray(a, np.float64)
    eigenvalues, left = (jnp if isinstance(a, jax.core.Tracer) else np).linalg.eigh(a @ a.T)
    a, left, eigenvalues = (jnp.asarray(each, jnp.float32) for each in (a, left, eigenvalues))

    def solve(c: Array, y: Array) -> Array:
        return divided(y @ left, eigenvalues[None], c) @ left.T

    return Operator(lambda x: x.reshape(len(x), d) @ a.T, lambda y: (y @ a).reshape(len(y), *event), solve)


def random_projection(key: Key, measurements: int, event: tuple[int, ...]) -> Operator:
    """Returns random measurements of an event of D numbers: a matrix of N(0, 1 / D), [measurements, D]."""
    d = math.prod(event)
    return matrix(np.asarray(jax.random.normal(key, (measurements, d))) / math.sqrt(d), event)


def compose(*operators: Operator) -> Operator:
    """Returns the operator that applies the given ones in turn: compose(blur, downsample) blurs first.

    If all are linear, so is the result. It has no `solve` of its own. Raises ValueError without operators.
    """
    if not operators:
        raise ValueError("compose() needs at least one operator")
    if len(operators) == 1:
        return operators[0]

    def apply(x: Array) -> Array:
        for operator in operators:
            x = operator.apply(x)
        return x

    def adjoint(y: Array) -> Array:
        for operator in reversed(operators):
            y = operator.adjoint(y)
        return y

    return Operator(apply, adjoint if all(each.adjoint for each in operators) else None)


def solve(operator: Operator, c: Sigma, y: Array) -> Array:
    """(A A' + c I)^-1 y, by the operator's own `solve` or by conjugate gradients.

    c >= 0 is one number, or one for each row of y. At c = 0 the result is that of the pseudo-inverse, and
    conjugate gradients are then exact only if y = A x for some x.

    Raises ValueError if the operator is not linear.
    """
    require_adjoint(operator, "solve")
    y = wide(y)
    c = per_row(c, y, "c")
    if operator.solve is not None:
        return operator.solve(c, y)

    def one(c, y):
        product = lambda v: operator.apply(operator.adjoint(v[None]))[0] + c * v
        return jax.scipy.sparse.linalg.cg(product, y, tol=TOLERANCE, maxiter=ITERATIONS)[0]

    return jax.vmap(one)(c, y)


def pseudo_inverse(operator: Operator, y: Array) -> Array:
    """A' (A A')^-1 y: the x of least norm whose measurement is y, or is nearest to y."""
    return operator.adjoint(solve(operator, 0.0, y))


def divided(y: Array, eigenvalues: Array, c: Array) -> Array:
    """y / (eigenvalues + c) for each row; at c = 0, directions with a negligible eigenvalue give 0."""
    total = eigenvalues + right(c, y)
    none = total <= NEGLIGIBLE * jnp.max(eigenvalues)
    return jnp.where(none, 0.0, y / jnp.where(none, 1.0, total))

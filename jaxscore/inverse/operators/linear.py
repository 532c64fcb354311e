"""Operators in general: what one is, linear functions and matrices, composition, and solving."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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

ITERATIONS, TOLERANCE, UNSOLVED = 1000, 1e-6, 0.01
"""Conjugate gradients stop at these iterations or this residual; above UNSOLVED they have failed."""


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
    if jnp.iscomplexobj(of_u):
        raise ValueError("the measurement is complex: return its real and imaginary part, stacked")
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

    The tests take random vectors: A(2u - 3v) = 2 A(u) - 3 A(v), <A u, w> = <u, A' w>, and if the operator has
    a `solve`, that it undoes A A' + I. What is not linear far away from the vectors is not found.
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
    if operator.solve is not None:
        back = operator.solve(jnp.ones(1), operator.apply(operator.adjoint(w)) + w)
        away = float(jnp.abs(back - w).max())
        if back.shape != w.shape or away > 1e-3 * float(jnp.abs(w).max()):
            raise ValueError(f"the solve is wrong: (A A' + I)^-1 (A A' + I) w is {away:.2g} away from w")


def require_adjoint(operator: Operator, what: str) -> None:
    """Raises ValueError, which says what needs it, if the operator is not linear."""
    if operator.adjoint is None:
        raise ValueError(f"the operator has no adjoint, so it is not linear; {what} needs a linear one")


def matrix(a: AnyArray, event: tuple[int, ...] | None = None) -> Operator:
    """Returns the operator of a matrix: y = a x, x flattened if an event of d numbers is no vector.

    `solve` takes the eigenvalues of a a'. Raises ValueError if a is no real matrix, or if the event has not d
    numbers.
    """
    if not isinstance(a, jax.Array):
        a = np.asarray(a)
    if a.ndim != 2 or jnp.iscomplexobj(a):
        raise ValueError(f"a has shape {a.shape} and type {a.dtype}; it must be a real matrix [m, d]")
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

    def apply(x: Array) -> Array:
        if x.shape[1:] != event:
            raise ValueError(f"an event has shape {x.shape[1:]}, and the matrix was made for {event}")
        return x.reshape(len(x), d) @ a.T

    return Operator(apply, lambda y: (y @ a).reshape(len(y), *event), solve)


def random_projection(key: Key, measurements: int, event: tuple[int, ...]) -> Operator:
    """Returns random measurements of an event of D numbers: a matrix of N(0, 1 / D), [measurements, D].

    Raises ValueError if measurements < 1.
    """
    if measurements < 1:
        raise ValueError(f"measurements = {measurements} must be at least 1")
    d = math.prod(event)
    return matrix(np.asarray(jax.random.normal(key, (measurements, d))) / math.sqrt(d), event)


def dense(operator: Operator, event: tuple[int, ...]) -> np.ndarray:
    """Returns the matrix of a linear operator, [m, d], in float64: one column for each number of an event."""
    identity = jnp.eye(math.prod(event)).reshape(-1, *event)
    return np.asarray(operator.apply(identity), np.float64).reshape(len(identity), -1).T


def factored(operator: Operator, event: tuple[int, ...]) -> Operator:
    """Returns the linear operator with a `solve` by the eigenvalues of A A', computed once.

    Conjugate gradients are no longer needed, and c = 0 is allowed. A is computed as a matrix, so this is for
    up to a few thousand numbers in an event and in its measurement. An operator with a `solve` is returned
    as it is.

    Raises ValueError if the operator is not linear.
    """
    require_adjoint(operator, "factored")
    if operator.solve is not None:
        return operator
    of_matrix = matrix(dense(operator, event)).solve

    def solve(c: Array, y: Array) -> Array:
        return of_matrix(c, y.reshape(len(y), -1)).reshape(y.shape)

    return operator._replace(solve=solve)


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

    c >= 0 is one number, or one for each row of y. At c = 0 the result is that of the pseudo-inverse;
    conjugate gradients then need a y that is A x for some x. If they have not converged after ITERATIONS, the
    row is NaN: A A' + c I is too ill-conditioned, and `factored` is the remedy.

    Raises ValueError if the operator is not linear.
    """
    require_adjoint(operator, "solve")
    y = wide(y)
    c = per_row(c, y, "c")
    if operator.solve is not None:
        return operator.solve(c, y)

    def one(c, y):
        product = lambda v: operator.apply(operator.adjoint(v[None]))[0] + c * v
        found = _conjugate_gradients(product, y)
        left = jnp.linalg.norm((product(found) - y).ravel())
        solved = (left <= UNSOLVED * jnp.linalg.norm(y.ravel())) | (c == 0)
        return jnp.where(solved & jnp.isfinite(c), found, jnp.nan)

    return jax.vmap(one)(c, y)


def _conjugate_gradients(product: Callable[[Array], Array], right_side: Array) -> Array:
    found = jax.scipy.sparse.linalg.cg(product, right_side, tol=TOLERANCE, maxiter=ITERATIONS)[0]
    return jnp.where(jnp.isfinite(right_side).all(), found, jnp.nan)  # of NaN, cg makes 0


def pseudo_inverse(operator: Operator, y: Array) -> Array:
    """A' (A A')^-1 y: the x of least norm whose measurement is y, or is nearest to y."""
    if operator.solve is not None or operator.adjoint is None:
        return operator.adjoint(solve(operator, 0.0, y))

    def one(x: Array) -> Array:  # (A' A)^-1 A' y, which always has a solution
        return _conjugate_gradients(lambda v: operator.adjoint(operator.apply(v[None]))[0], x)

    return jax.vmap(one)(operator.adjoint(wide(y)))


def divided(y: Array, eigenvalues: Array, c: Array) -> Array:
    """y / (eigenvalues + c) for each row; at c = 0, directions with a negligible eigenvalue give 0."""
    c, eigenvalues = right(c, y), jnp.maximum(eigenvalues, 0.0)  # rounding makes some of them negative
    total = eigenvalues + c
    none = (c == 0) & (eigenvalues <= NEGLIGIBLE * jnp.max(eigenvalues))
    return jnp.where(none, 0.0, y / jnp.where(none, 1.0, total))

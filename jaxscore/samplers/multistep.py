"""Multistep solvers: one evaluation of the score per step, and a memory of the last evaluations.

    dpm_solver_pp(order=2)         DPM-Solver++(2M); order 3 is (3M), and eta > 0 has the stochastic forms
    unipc(order=2)                 UniPC, whose corrector uses the evaluation that the next step needs anyway
    deis(order=3)                  DEIS: the polynomial in ln sigma through the last slopes
    lms(order=4)                   linear multistep: the polynomial in sigma through the last slopes

They start at order 1, and raise it as evaluations become known. The error of the first step falls as h^2, so
this is also how the error at the end falls, if the first steps are as long as the others. UniPC's corrector
gains one order there. The step to sigma = 0 is x = D, Tweedie's denoising, but for `lms`.

In the formulas D = x + sigma^2 s is the denoiser, and D_1 and D_2 are the denoisers of the two steps before.
The slope of the probability flow is e = (x - D) / sigma. The step has the length h = ln(sigma / sigma_next),
and n_j = -ln(sigma_j / sigma) / h is the place of D_j: 0 for D, negative for the past, 1 for sigma_next.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxscore import noise
from jaxscore.samplers.base import Batch, Sampler, Scalar, at
from jaxscore.types import Array


class History(NamedTuple):
    """The last evaluations, the newest first; the memory of a multistep solver."""

    values: Float[Array, "k b *event"]
    """Denoisers or slopes."""
    sigmas: Float[Array, "k"]
    """Their levels; infinite where there is no evaluation yet."""

    @classmethod
    def empty(cls, x: Batch, length: int) -> "History":
        """Returns a history with room for `length` evaluations."""
        return cls(jnp.zeros((length, *x.shape), x.dtype), jnp.full(length, jnp.inf, x.dtype))

    def grown(self, value: Batch, sigma: Scalar) -> "History":
        """Returns the history with one evaluation more; it replaces one of the same level."""
        lower = sigma < self.sigmas[0]
        push = lambda old, new: jnp.concatenate([new[None], jnp.where(lower, old[:-1], old[1:])])
        return History(push(self.values, value), push(self.sigmas, sigma))

    def usable(self, step: Scalar) -> Array:
        """Counts the newest evaluations whose levels go up, back in time, by 1 % of the step or more.

        A polynomial through levels that are nearer to each other magnifies their rounding errors.
        """
        gaps = self.sigmas[1:] - self.sigmas[:-1]
        return 1 + jnp.cumprod(jnp.isfinite(gaps) & (gaps > 0.01 * step)).sum()


Rule = Callable[[Float[Array, "m"], Scalar, Scalar], Float[Array, "m"]]
"""rule(sigmas[m], sigma, sigma_next) -> the weights of evaluations at these levels in a step from sigma."""


def combined(
    rule: Rule, history: History, sigma: Scalar, sigma_next: Scalar, *, least: int = 1, most: int
) -> Batch:
    """Returns the sum of the evaluations times their weights, for as many as are usable, `most` at most."""
    known, k = history.usable(sigma - sigma_next), len(history.sigmas)
    fine = jnp.arange(k) < known
    # Levels that cannot be used are replaced by others: what is not used must have a finite gradient, too.
    others = jnp.max(jnp.where(fine, history.sigmas, 0)) * 2.0 ** jnp.arange(k, dtype=history.sigmas.dtype)
    sigmas = jnp.where(fine, history.sigmas, others)
    weights = jnp.zeros_like(sigmas)
    for m in range(least, most + 1):
        found = jnp.pad(rule(sigmas[:m], sigma, sigma_next), (0, k - m))
        weights = jnp.where(known >= m, found, weights)
    return jnp.tensordot(weights, history.values, axes=1)


def _multistep(
    order: int, rule: Rule, *, slopes: bool = False, eta: float = 0.0, to_zero: bool = False
) -> Sampler:
    """Returns x <- a x + sum_j w_j v_j with w = rule(...), for sigma_next = 0 too if `to_zero`."""

    def init(x: Batch) -> History:
        return History.empty(x, order)

    def step(key, x, history, score, sigma, sigma_next):
        denoised = x + sigma**2 * at(score, x, sigma)
        history = history.grown((x - denoised) / sigma if slopes else denoised, sigma)
        moves, end = _reached(sigma, sigma_next, to_zero)
        kept = 1.0 if slopes else (end / sigma) ** (1 + eta)
        there = kept * x + combined(rule, history, sigma, end, most=order)
        if eta:
            z = noise.normal(key, x.shape, x.dtype)
            there = there + end * jnp.sqrt(1 - (end / sigma) ** (2 * eta)) * z
        return jnp.where(moves, there, jnp.where(sigma_next > 0, x, denoised)), history

    return Sampler(init, step, order)


def _reached(sigma: Scalar, sigma_next: Scalar, to_zero: bool = False) -> tuple[Array, Array]:
    """Returns whether the step goes down to a level that the rule can reach, and this level, or sigma / 2."""
    lower = sigma_next < sigma * (1 - 4 * jnp.finfo(sigma.dtype).eps)  # else h would be rounding alone
    moves = ((sigma_next > 0) | to_zero) & lower
    return moves, jnp.where(moves, sigma_next, sigma / 2)


def nodes_of(sigmas: Float[Array, "m"], sigma: Scalar, sigma_next: Scalar) -> tuple[Array, Array]:
    """Returns n_j = -ln(sigma_j / sigma) / h for each level, and h = ln(sigma / sigma_next)."""
    h = jnp.log(sigma / sigma_next)
    return -jnp.log(sigmas / sigma) / h, h


def integrated(nodes: Float[Array, "m"], density: Callable[[Array], Array]) -> Float[Array, "m"]:
    """Returns the integrals of density(s) L_j(s) over 0..1, by Gauss-Legendre quadrature with 12 points.

    L_j is the polynomial that is 1 at nodes[j] and 0 at the others.
    """
    points, weights = np.polynomial.legendre.leggauss(12)
    s = jnp.asarray((1 + points) / 2, nodes.dtype)
    found = []
    for j in range(len(nodes)):
        others = [i for i in range(len(nodes)) if i != j]
        polynomial = math.prod(
            ((s - nodes[i]) / (nodes[j] - nodes[i]) for i in others), start=jnp.ones_like(s)
        )
        found.append(jnp.sum(jnp.asarray(weights / 2, nodes.dtype) * density(s) * polynomial))
    return jnp.stack(found)


def dpm_solver_pp(order: int = 2, *, eta: float = 0.0, variant: str = "midpoint") -> Sampler:
    """DPM-Solver++, the multistep forms of order 1 to 3: one evaluation per step.

        x <- e^-k x + D' + sigma_next sqrt(1 - e^(-2 eta h)) z,    k = (1 + eta) h
        order 1             D' = p_1 D                                       DDIM, if eta = 0
        order 2, midpoint   D' = p_1 (D + d / 2)
        order 2, heun       D' = p_1 D + p_2 d
        order 3             D' = p_1 D + p_2 (d - n_1 c) - p_3 c

        p_1 = 1 - e^-k,    p_2 = 1 - p_1 / k,    p_3 = p_2 / k - 1/2
        d = (D_1 - D) / n_1,    c = (d - (D_2 - D_1) / (n_2 - n_1)) / -n_2

    A step is exact if D does not change along it. Order 3 is the paper's name: the last term is half of what
    the polynomial through three denoisers has, so the error falls as h^2, with a smaller factor.

    Args:
        order: the number of denoisers used.
        eta: the noise added, from 0 for the probability flow to 1 for the reverse-time SDE.
        variant: the step of order 2, which is also the second step of order 3.

    Source: Lu et al. 2022b, "DPM-Solver++", algorithm 2 and appendix B. Raises ValueError for other values.
    """
    _require_order(order, 3)
    if not 0 <= eta < math.inf or variant not in ("midpoint", "heun"):
        raise ValueError(f"need eta >= 0, and variant 'midpoint' or 'heun', not {eta} and {variant!r}")

    def rule(sigmas: Array, sigma: Scalar, sigma_next: Scalar) -> Array:
        nodes, h = nodes_of(sigmas, sigma, sigma_next)
        k = (1 + eta) * h
        p_1 = -jnp.expm1(-k)
        p_2 = 1 - p_1 / k
        newest = jnp.zeros_like(nodes).at[0].set(1)
        if len(nodes) == 1:
            return p_1 * newest
        d = (jnp.zeros_like(nodes).at[1].set(1) - newest) / nodes[1]
        if len(nodes) == 2:
            return p_1 * newest + (p_1 / 2 if variant == "midpoint" else p_2) * d
        before = jnp.array([0.0, -1.0, 1.0], nodes.dtype) / (nodes[2] - nodes[1])
        c = (d - before) / -nodes[2]
        return p_1 * newest + p_2 * (d - nodes[1] * c) - (p_2 / k - 0.5) * c

    return _multistep(order, rule, eta=eta)


def deis(order: int = 3) -> Sampler:
    """DEIS in ln sigma: one evaluation per step, and order up to 3.

        x <- x + integral of P(ln t) dt from sigma to sigma_next

    P is the polynomial in ln t through the last `order` slopes e. Order 1 is DDIM.

    Source: Zhang & Chen 2023, "Fast sampling of diffusion models with exponential integrator", section 3,
    their "log-rho" form. Raises ValueError for another order.
    """
    _require_order(order, 3)

    def rule(sigmas: Array, sigma: Scalar, sigma_next: Scalar) -> Array:
        nodes, h = nodes_of(sigmas, sigma, sigma_next)
        return integrated(nodes, lambda s: -h * sigma * jnp.exp(-h * s))

    return _multistep(order, rule, slopes=True)


def lms(order: int = 4) -> Sampler:
    """Linear multistep, Adams and Bashforth's method on uneven levels: one evaluation per step.

        x <- x + integral of P(t) dt from sigma to sigma_next

    P is the polynomial in t through the last `order` slopes e, up to four. Order 1 is Euler's method.

    Source: Hairer, Norsett & Wanner 1993, "Solving Ordinary Differential Equations I", section III.5. Raises
    ValueError for another order.
    """
    _require_order(order, 4)

    def rule(sigmas: Array, sigma: Scalar, sigma_next: Scalar) -> Array:
        length = sigma_next - sigma
        return length * integrated((sigmas - sigma) / length, jnp.ones_like)

    return _multistep(order, rule, slopes=True, to_zero=True)


def unipc(order: int = 2, *, variant: str = "bh2") -> Sampler:
    """UniPC: a predictor, and a corrector that costs no evaluation.

        x <- e^-h x + (1 - e^-h) D - B sum_j a_j (D_j - D) / n_j

    The predictor sums over the denoisers of the steps before. The corrector sums also over the denoiser at
    sigma_next, at n = 1. The step from there begins with it, because that step evaluates this denoiser. It
    goes on from the corrected x with the same denoiser. The a_j solve as many equations, i = 1, 2, ...:

        sum_j a_j n_j^(i-1) = i! q_i / B,    q_0 = e^-h - 1,    q_i = -q_(i-1) / h - 1 / i!

    and a single a_j is 1/2. B is -h for "bh1", and e^-h - 1 for "bh2".

    Args:
        order: the number of denoisers that the predictor uses.
        variant: the function B(h).

    Source: Zhao et al. 2023, "UniPC", algorithms 5 to 8. Raises ValueError for other arguments.
    """
    _require_order(order, 3)
    if variant not in ("bh1", "bh2"):
        raise ValueError(f"variant = {variant!r} must be 'bh1' or 'bh2'")

    def terms(nodes: Array, h: Scalar) -> Array:
        """Returns -B a_j / n_j for each j."""
        m, b, q, moments = len(nodes), -h if variant == "bh1" else jnp.expm1(-h), jnp.expm1(-h), []
        for i in range(1, m + 1):
            q = -q / h - 1 / math.factorial(i)
            moments.append(math.factorial(i) * q / b)
        powers = nodes[None] ** jnp.arange(m)[:, None]
        a = jnp.linalg.solve(powers, jnp.stack(moments)) if m > 1 else jnp.full(1, 0.5, nodes.dtype)
        return -b * a / nodes

    def predictor(sigmas: Array, sigma: Scalar, sigma_next: Scalar) -> Array:
        nodes, h = nodes_of(sigmas, sigma, sigma_next)
        others = terms(nodes[1:], h) if len(nodes) > 1 else nodes[1:]
        return jnp.concatenate([(-jnp.expm1(-h) - others.sum())[None], others])

    def corrector(sigmas: Array, sigma: Scalar, sigma_next: Scalar) -> Array:
        nodes, h = nodes_of(sigmas, sigma, sigma_next)
        others = terms(jnp.delete(nodes, 1), h)
        return jnp.insert(others, 1, -jnp.expm1(-h) - others.sum())

    def init(x: Batch) -> tuple[History, Batch]:
        return History.empty(x, order + 1), x

    def step(key, x, memory, score, sigma, sigma_next):
        del key  # deterministic
        history, before = memory
        known = jnp.isfinite(history.sigmas[0]) & _reached(history.sigmas[0], sigma)[0]
        origin = jnp.where(known, history.sigmas[0], 2 * sigma)
        denoised = x + sigma**2 * at(score, x, sigma)
        history = history.grown(denoised, sigma)
        corrected = sigma / origin * before + combined(
            corrector, history, origin, sigma, least=2, most=order + 1
        )
        x = jnp.where(known, corrected, x)
        moves, end = _reached(sigma, sigma_next)
        there = end / sigma * x + combined(predictor, history, sigma, end, most=order)
        return jnp.where(moves, there, jnp.where(sigma_next > 0, x, denoised)), (history, x)

    return Sampler(init, step, order)


def _require_order(order: int, most: int) -> None:
    if order not in range(1, most + 1):
        raise ValueError(f"order = {order!r} must be in 1..{most}")

"""The objectives of consistency training and distillation, over pairs of levels and in continuous time."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore import noise
from jaxscore.consistency.levels import Cells
from jaxscore.types import Array, Key, ScoreFn, Sigma, per_row, right, shaped, wide

Batch = Float[Array, "b *event"]
Levels = Float[Array, "b"]
Loss = Float[Array, "b"]
Objective = Callable[[ScoreFn, Key, Array, Array], Array]


def training(cells: Cells) -> Objective:
    """gap(f, (x + b n, b), (x + a n, a)) / (b - a), a < b the neighbours of sigma, n ~ N(0, I), x clean.

    x + a n is where Euler's step of the probability flow leads if x is the only example. The error of this
    score averages out over the examples, in the limit of small cells.

    Source: Song & Dhariwal 2024, equations 5 and 7, without an average of parameters at the lower end.
    """

    def objective(f: ScoreFn, key: Key, x: Batch, sigma: Sigma) -> Loss:
        x, n, lower, upper = _ends(cells, key, x, sigma)
        above, below = x + right(upper, x) * n, x + right(lower, x) * n
        return gap(f, (above, upper), (below, lower)) / (upper - lower)

    return objective


def distillation(score: ScoreFn, cells: Cells, *, order: int = 2) -> Objective:
    """gap(f, (x + b n, b), (y, a)) / (b - a), y one step of the score's probability flow from x + b n.

    a < b are the neighbours of sigma, n ~ N(0, I), x clean. The score has its parameters bound, and no
    gradient.

    Args:
        score: the trained score.
        cells: as `cells` returns them.
        order: 1 for Euler's step, with one evaluation of the score; 2 for Heun's, with two.

    Raises ValueError for another order.

    Source: Song et al. 2023, algorithm 2; distance and weight as in `training`.
    """
    if order not in (1, 2):
        raise ValueError(f"order = {order} must be 1 (Euler) or 2 (Heun)")
    score = shaped(score)
    slope = lambda x, sigma: -right(sigma, x) * score(x, sigma)

    def objective(f: ScoreFn, key: Key, x: Batch, sigma: Sigma) -> Loss:
        x, n, lower, upper = _ends(cells, key, x, sigma)
        above, h = x + right(upper, x) * n, right(lower - upper, x)
        change = slope(above, upper)
        if order == 2:
            change = (change + slope(above + h * change, lower)) / 2
        return gap(f, (above, upper), (above + h * change, lower)) / (upper - lower)

    return objective


def gap(f: ScoreFn, above: tuple[Batch, Sigma], below: tuple[Batch, Sigma]) -> Loss:
    """sqrt(|f(above) - f(below)|^2 + c^2) - c, c = 0.00054 sqrt(D), the pseudo-Huber distance.

    `above` and `below` are points (x[b, ...], sigma[b]) of the same flow, with D numbers in an example.
    f(below) is a target without gradient. The distance is exactly 0 at equal points.

    Source: Song & Dhariwal 2024, section 3.3.
    """
    f = shaped(f, "consistency function")
    squares = _sum((f(*above) - jax.lax.stop_gradient(f(*below))) ** 2)
    c = 0.00054 * math.sqrt(math.prod(above[0].shape[1:]))
    return squares / (jnp.sqrt(squares + c**2) + c)  # without cancellation


def continuous(
    sigma_data: float, *, score: ScoreFn | None = None, ramp: float | Array = 1.0, constant: float = 0.1
) -> Objective:
    """1/2 |(f - f*) / c_out + g / (|g| / sqrt(D) + constant)|^2, f* = f without gradient.

        g = d + ramp (sqrt(v) df/dsigma - d),    v = sigma^2 + sigma_data^2
        d = sigma_data^2 / (sigma sqrt(v)) (f - x0),    c_out = sigma sigma_data / sqrt(v)

    df/dsigma is the total derivative along x0 + sigma n, computed forward. g has no gradient. The value of
    the objective says nothing, because f - f* is 0; its gradient moves f against g. With ramp = 0 the
    objective is denoising, with ramp = 1 consistency. With a score, df/dsigma is the derivative along its
    probability flow, dx/dsigma = -sigma s, and x0 is its denoiser.

    Args:
        sigma_data: standard deviation of the data, as in `preconditioned`.
        score: trained score; without one the objective learns from data.
        ramp: r of the paper, which rises from 0 to 1 in the first part of training; it may be traced.
        constant: c of the paper.

    Raises ValueError unless sigma_data and constant are positive.

    Source: Lu & Song 2024, "Simplifying, stabilizing and scaling continuous-time consistency models",
    algorithm 1 with t = arctan(sigma / sigma_data), without its adaptive weight.
    """
    if not (0 < sigma_data < math.inf and 0 < constant < math.inf):
        text = "must be positive and finite"
        raise ValueError(f"sigma_data = {sigma_data} and constant = {constant} {text}")

    def objective(f: ScoreFn, key: Key, x: Batch, sigma: Sigma) -> Loss:
        f, x = shaped(f, "consistency function"), wide(x)
        sigma, n = per_row(sigma, x), noise.normal(key, x.shape, x.dtype)
        s, root = right(sigma, x), right(jnp.sqrt(sigma**2 + sigma_data**2), x)
        noisy = x + s * n
        if score is not None:
            n = jax.lax.stop_gradient(-s * shaped(score)(noisy, sigma))
            x = noisy - s * n
        value, slope = jax.jvp(f, (noisy, sigma), (n, jnp.ones_like(sigma)))
        fixed, slope = jax.lax.stop_gradient((value, slope))
        denoising = sigma_data**2 / (s * root) * (fixed - x)
        g = denoising + ramp * (root * slope - denoising)
        size = right(jnp.sqrt(_sum(g**2) / math.prod(x.shape[1:])), x)
        return _sum(((value - fixed) * root / (s * sigma_data) + g / (size + constant)) ** 2) / 2

    return objective


def _ends(cells: Cells, key: Key, x: Batch, sigma: Sigma) -> tuple[Batch, Batch, Levels, Levels]:
    """Returns x in float32 or wider, noise, and the two levels around each sigma."""
    x = wide(x)
    lower, upper = cells(per_row(sigma, x))
    return x, noise.normal(key, x.shape, x.dtype), lower, upper


def _sum(a: Batch) -> Loss:
    return jnp.sum(a, axis=tuple(range(1, a.ndim)))

"""The variational lower bound of the log density, by Monte Carlo over noise levels."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Num

from jaxscore import noise
from jaxscore.likelihood.flow import require_density
from jaxscore.samplers.adaptive import require_range
from jaxscore.samplers.prior import Moments, isotropic, log_prior
from jaxscore.types import AnyArray, Array, Key, ScoreFn, right, shaped, wide

Batch = Float[Array, "b *event"]


class Bound(NamedTuple):
    """An estimate of a lower bound of log p for each example."""

    value: Float[Array, "b"]
    """The lower bound, in nats."""
    standard_error: Float[Array, "b"]
    """Standard error of the value, from the differences between the draws; NaN for one draw."""


def bound(
    score: ScoreFn,
    key: Key,
    x: Num[AnyArray, "b *event"],
    *,
    sigma_min: float,
    sigma_max: float,
    draws: int = 32,
    moments: Moments | None = None,
) -> Bound:
    """Returns a lower bound of log p(x) for the model that draws x by the reverse process with this score.

        log p(x) >= E[log N(x; D(x + sigma_min n, sigma_min), sigma_min^2 I)]
                    - KL(N(x, sigma_max^2 I) | prior)
                    - int_{sigma_min}^{sigma_max} E|sigma s(x + sigma n, sigma) + n|^2 dln sigma

    D is the denoiser, n ~ N(0, I). Both expectations are estimated with `draws` random n and noise levels,
    two evaluations of the score each; the levels are stratified in ln sigma. For the score of a Gaussian with
    the moments of the data both expectations are known, so only the difference from it is estimated.

    The bound is of the density at level 0. The model of the reverse process is not that of the probability
    flow; with the exact score both are the distribution of the data. Row i depends on (key, i) alone.

    Args:
        score: the score, with parameters and condition bound.
        key: one key, or an array of keys, one for each row.
        x: examples, as numbers with a density: grey values need `dequantise` first.
        sigma_min, sigma_max: first and last level of the process.
        draws: number of draws for each example.
        moments: of the data, for the prior; see `samplers.prior`.

    Raises:
        ValueError: unless 0 < sigma_min < sigma_max and draws >= 1, and for x that has integers.

    Source: Kingma et al. 2021, equations 11 to 17, whose SNR is 1 / sigma^2.
    """
    require_range(sigma_min, sigma_max)
    require_density(x)
    if draws < 1:
        raise ValueError(f"draws = {draws} must be at least 1")
    score, x = shaped(score), wide(x)
    keys, gaussian = noise.row_keys(key, len(x)), Gaussian(*isotropic(moments, x))
    span = math.log(sigma_max / sigma_min)
    uniform = jax.vmap(lambda key: jax.random.uniform(key, dtype=x.dtype))

    def excess(key: Key, sigma: Array) -> Array:
        """|sigma s + n|^2, less the same of the Gaussian's score."""
        n, s = noise.normal(key, x.shape, x.dtype), right(sigma, x)
        noisy = x + s * n
        square = lambda score: _square(s * score + n)
        return square(score(noisy, sigma)) - square(gaussian.score(noisy, sigma))

    def one(number: Array) -> Array:
        part = noise.fold_in(keys, number)
        level = (number + uniform(noise.fold_in(part, 0))) / draws
        lowest = jnp.full(len(x), sigma_min, x.dtype)
        decoder = excess(noise.fold_in(part, 1), lowest) / 2
        return -decoder - span * excess(noise.fold_in(part, 2), sigma_min * jnp.exp(span * level))

    found = jax.lax.map(one, jnp.arange(draws))
    known = gaussian.bound(x, sigma_min, sigma_max) - _divergence(x, sigma_max, moments)
    # Neighbouring levels have nearly the same mean, so that their difference is mostly noise.
    scatter = jnp.sum((found[1:] - found[:-1]) ** 2, axis=0) / (2 * draws * max(draws - 1, 1))
    error = jnp.sqrt(scatter) if draws > 1 else jnp.full(len(x), jnp.nan, x.dtype)
    return Bound(known + found.mean(axis=0), error)


class Gaussian(NamedTuple):
    """N(mean, variance I), for which the expectations of the bound are known."""

    mean: Float[Array, "1 *event"]
    variance: Float[Array, ""]

    def score(self, x: Batch, sigma: Float[Array, "b"]) -> Batch:
        """Returns its score at each noise level."""
        return (self.mean - x) / right(sigma**2 + self.variance, x)

    def bound(self, x: Batch, sigma_min: float, sigma_max: float) -> Float[Array, "b"]:
        """Returns the bound with its score, without the divergence at sigma_max.

        E|sigma s + n|^2 = (sigma^2 |x - mean|^2 + a^2 D) / (sigma^2 + a)^2, with the variance a.
        """
        a, size, square = self.variance, math.prod(x.shape[1:]), _square(x - self.mean)
        low, high = sigma_min**2, sigma_max**2
        decoder = (low * square + a**2 * size) / (low + a) ** 2 + size * math.log(2 * math.pi * low)
        levels = square * (1 / (low + a) - 1 / (high + a))
        levels += size * (
            jnp.log(high / (high + a)) - jnp.log(low / (low + a)) + a / (high + a) - a / (low + a)
        )
        return -(decoder + levels) / 2


def _divergence(x: Batch, sigma: float, moments: Moments | None) -> Float[Array, "b"]:
    """KL(N(x, sigma^2 I) | prior), in nats."""
    size = math.prod(x.shape[1:])
    variances = 0.0 if moments is None else jnp.broadcast_to(moments.variances, (size,))
    inside = jnp.sum(jnp.broadcast_to(sigma**2 / (variances + sigma**2), (size,)))
    return -log_prior(x, sigma, moments) + inside / 2 - size / 2 * math.log(2 * math.pi * math.e * sigma**2)


def _square(x: Batch) -> Float[Array, "b"]:
    return jnp.sum(x**2, axis=tuple(range(1, x.ndim)))

"""Noise schedules sigma(u): quantile functions of the noise level."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jaxtyping import Float

from jaxscore.types import Array, Key, Schedule


def geometric(sigma_min: float, sigma_max: float) -> Schedule:
    """Geometric schedule: a constant ratio between even steps of u.

        sigma(u) = sigma_min (sigma_max / sigma_min)^u

    These are the levels of NCSN (Song & Ermon 2019, section 4.2), and the VE process of Song et al. 2021.

    Raises:
        ValueError: unless 0 < sigma_min < sigma_max.
    """
    _check_range(sigma_min, sigma_max)
    return lambda u: sigma_min * (sigma_max / sigma_min) ** u


def karras(sigma_min: float, sigma_max: float, *, rho: float = 7.0) -> Schedule:
    """EDM's sampling schedule.

        sigma(u) = (sigma_min^(1/rho) + u (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho

    Raises:
        ValueError: unless 0 < sigma_min < sigma_max and rho > 0.

    Source: Karras et al. 2022, equation 5, with u = 1 - i / (N - 1).
    """
    _check_range(sigma_min, sigma_max)
    if not 0 < rho < math.inf:
        raise ValueError(f"rho = {rho} must be positive")
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return lambda u: (low + u * (high - low)) ** rho


def lognormal(mean: float, std: float) -> Schedule:
    """EDM's training distribution: ln sigma ~ N(mean, std^2).

        sigma(u) = exp(mean + std Phi^-1(u))

    It is infinite at u = 1 and zero at u = 0: use it for training, not for `levels`. In flow matching, where
    sigma = t / (1 - t), these are the logit-normal times of Esser et al. 2024, with the same mean and std.

    Raises:
        ValueError: unless mean is finite and std > 0.

    Source: Karras et al. 2022, table 1, with mean -1.2 and std 1.2; Esser et al. 2024, section 3.1, with mean
    0 and std 1.
    """
    if not (math.isfinite(mean) and 0 < std < math.inf):
        raise ValueError(f"mean = {mean} must be finite, and std = {std} positive")
    return lambda u: jnp.exp(mean + std * ndtri(u))


def vp_linear(*, beta_min: float = 0.1, beta_max: float = 20.0, t_min: float = 1e-3) -> Schedule:
    """Noise-to-signal ratio of the VP process whose beta(t) is linear.

        sigma(u) = sqrt(exp(B(t)) - 1),    B(t) = beta_min t + (beta_max - beta_min) t^2 / 2
        t = t_min + u (1 - t_min)

    Raises:
        ValueError: unless 0 < beta_min <= beta_max and 0 < t_min < 1.

    Source: Song et al. 2021, equation 33.
    """
    total = _linear_beta(beta_min, beta_max, t_min)
    return lambda u: jnp.sqrt(jnp.expm1(total(u)))


def sub_vp_linear(*, beta_min: float = 0.1, beta_max: float = 20.0, t_min: float = 1e-3) -> Schedule:
    """Noise-to-signal ratio of the sub-VP process whose beta(t) is linear.

        sigma(u) = 2 sinh(B(t) / 2),    B(t) and t as in `vp_linear`

    The process is x' = alpha x0 + (1 - alpha^2) n with alpha = exp(-B(t) / 2); see `score.sub_vp`.

    Raises:
        ValueError: unless 0 < beta_min <= beta_max and 0 < t_min < 1.

    Source: Song et al. 2021, equations 29 and 33.
    """
    total = _linear_beta(beta_min, beta_max, t_min)
    return lambda u: 2 * jnp.sinh(total(u) / 2)


def _linear_beta(beta_min: float, beta_max: float, t_min: float) -> Callable[[Array], Array]:
    """Returns B(t) as a function of u, t = t_min + u (1 - t_min)."""
    _require_betas(beta_min, beta_max)
    if not 0 < t_min < 1:
        raise ValueError(f"t_min = {t_min} must lie between 0 and 1")

    def total(u: Array) -> Array:
        t = t_min + u * (1 - t_min)
        return beta_min * t + (beta_max - beta_min) * t**2 / 2

    return total


def vp_time(
    sigma: Float[Array, "*n"], *, beta_min: float = 0.1, beta_max: float = 20.0
) -> Float[Array, "*n"]:
    """Time t at which the VP process of `vp_linear` has this noise-to-signal ratio.

        t = 2 L / (beta_min + sqrt(beta_min^2 + 2 (beta_max - beta_min) L)),    L = ln(1 + sigma^2)

    It solves B(t) = L for t, without the cancellation that the usual root has at small sigma. Networks of the
    VP process are given (M - 1) t with M = 1000.
    """
    return _time(jnp.log1p(sigma**2), beta_min, beta_max)


def sub_vp_time(
    sigma: Float[Array, "*n"], *, beta_min: float = 0.1, beta_max: float = 20.0
) -> Float[Array, "*n"]:
    """Time t at which the process of `sub_vp_linear` has this noise-to-signal ratio.

    It is that of `vp_time` with L = 2 arsinh(sigma / 2).
    """
    return _time(2 * jnp.arcsinh(sigma / 2), beta_min, beta_max)


def _time(total: Array, beta_min: float, beta_max: float) -> Array:
    """Returns t with B(t) = total."""
    _require_betas(beta_min, beta_max)
    return 2 * total / (beta_min + jnp.sqrt(beta_min**2 + 2 * (beta_max - beta_min) * total))


def _require_betas(beta_min: float, beta_max: float) -> None:
    if not 0 < beta_min <= beta_max < math.inf:
        raise ValueError(f"need 0 < beta_min <= beta_max, not {beta_min} and {beta_max}")


def cosine(*, offset: float = 0.008, t_min: float = 1e-3, t_max: float = 0.999) -> Schedule:
    """Cosine schedule.

        sigma(u) = sqrt(1 / abar(t) - 1),    abar(t) = cos^2(a(t)) / cos^2(a(0))
        a(t) = (t + offset) / (1 + offset) pi / 2,    t = t_min + u (t_max - t_min)

    It is computed as sqrt(sin(a(t) - a(0)) sin(a(t) + a(0))) / cos a(t), which loses no digits at either end.

    Raises:
        ValueError: unless offset >= 0 and 0 < t_min < t_max < 1.

    Source: Nichol & Dhariwal 2021, equation 17.
    """
    if not 0 <= offset < math.inf or not 0 < t_min < t_max < 1:
        raise ValueError(f"need offset >= 0, 0 < t_min < t_max < 1, not {offset}, {t_min}, {t_max}")

    def sigma(u: Array) -> Array:
        t = t_min + u * (t_max - t_min)
        quarter_turn = jnp.pi / 2 / (1 + offset)
        difference, total = t * quarter_turn, (t + 2 * offset) * quarter_turn
        cos_a = jnp.sin((1 - t) * quarter_turn)
        return jnp.sqrt(jnp.sin(difference) * jnp.sin(total)) / cos_a

    return sigma


def flow(*, shift: float = 1.0, t_min: float = 1e-3, t_max: float = 0.999) -> Schedule:
    """Noise-to-signal ratio of flow matching, x_t = (1 - t) x0 + t n, at even times.

        sigma(u) = shift t / (1 - t),    t = t_min + u (t_max - t_min)

    The shift moves all levels up, as larger images need: it maps t to shift t / (1 + (shift - 1) t).

    Raises:
        ValueError: unless shift > 0 and 0 < t_min < t_max < 1.

    Source: Lipman et al. 2023; Esser et al. 2024, equation 23, for the shift.
    """
    if not 0 < shift < math.inf or not 0 < t_min < t_max < 1:
        raise ValueError(f"need shift > 0 and 0 < t_min < t_max < 1, not {shift}, {t_min} and {t_max}")

    def sigma(u: Array) -> Array:
        t = t_min + u * (t_max - t_min)
        return shift * t / (1 - t)

    return sigma


def uniform_over(sigmas: Float[Array, "n"]) -> Schedule:
    """sigma(u) = sigmas[floor(u n)]: each of n given levels with the same probability (Song & Ermon 2019).

    For training. The levels need not be sorted.
    """
    n, sigmas = len(sigmas), jnp.asarray(sigmas)
    return lambda u: sigmas[jnp.minimum(jnp.floor(u * n).astype(int), n - 1)]


def _check_range(sigma_min: float, sigma_max: float) -> None:
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"need 0 < sigma_min < sigma_max, not {sigma_min} and {sigma_max}")


def levels(schedule: Schedule, n: int) -> Float[Array, "n_plus_1"]:
    """Sampling grid sigma_1 > ... > sigma_n > 0: n evenly spaced quantiles in descending order, then zero.

    `samplers.sample` takes one step from each level to the next, so n levels are n steps.

    Raises:
        ValueError: if n < 2, and if the levels are known to be infinite, or not to go down (`lognormal`).
    """
    if n < 2:
        raise ValueError(f"n = {n} levels: at least 2 are needed")
    sigmas = jnp.append(schedule(jnp.linspace(1.0, 0.0, n)), 0.0)
    if not isinstance(sigmas, jax.core.Tracer):
        known = np.asarray(sigmas)
        if not (np.isfinite(known).all() and (np.diff(known) < 0).all()):
            text = f"the schedule goes from {known[0]:.4g} to {known[-2]:.4g} in {n} levels"
            raise ValueError(f"{text}; they must be finite and positive, and go down")
    return sigmas


def stratified(key: Key, n: int) -> Float[Array, "n"]:
    """n uniforms in (0, 1), one in each interval of length 1/n, all with the same random offset.

    Each of them is uniform. Together they cover (0, 1) evenly, which lowers the variance of a batch's loss
    (Kingma et al. 2021, appendix I.1). They are kept off 0 and 1, where `lognormal` is zero or infinite.
    """
    u = jnp.mod(jax.random.uniform(key) + jnp.arange(n) / n, 1.0)
    return jnp.clip(u, 1e-6, 1 - 1e-6)


def density(schedule: Schedule, u: Float[Array, "n"]) -> Float[Array, "n"]:
    """Density q of sigma at schedule(u) for uniform u: q = 1 / (dsigma / du), per unit of sigma."""
    _, slope = jax.jvp(schedule, (u,), (jnp.ones_like(u),))
    return 1 / slope

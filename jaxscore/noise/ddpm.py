"""The process of DDPM, which has a table of steps: from beta of each step to its noise level, and back.

In step t = 0, 1, ... the process keeps a part of x and adds noise, with 0 < beta_t < 1:

    x'_t = sqrt(1 - beta_t) x'_{t-1} + sqrt(beta_t) n = sqrt(abar_t) x0 + sqrt(1 - abar_t) n
    abar_t = prod_{s <= t} (1 - beta_s)

Divided by sqrt(abar_t) it is x0 + sigma_t n, the coordinates of this library, with

    sigma_t = sqrt((1 - abar_t) / abar_t)

Sources: Ho et al. 2020, equation 4; Song et al. 2021, appendix B.
"""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxscore.types import Array


def ddpm_betas(
    kind: str = "linear", *, steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
) -> np.ndarray:
    """Returns beta_t for the steps t = 0, ..., steps - 1, in float64.

        linear          beta goes evenly from beta_start to beta_end
        scaled_linear   sqrt(beta) does
        cosine          beta_t = min(1 - a(t + 1) / a(t), 0.999), a(t) = cos^2((t / steps + 0.008) pi / 2.016)

    Args:
        kind: name of the table.
        steps: number of steps.
        beta_start, beta_end: first and last beta; cosine does not use them.

    Raises:
        ValueError: for another name, and unless steps >= 1 and 0 < beta_start <= beta_end < 1.

    Source: Ho et al. 2020; Rombach et al. 2022 (scaled_linear); Nichol & Dhariwal 2021 (cosine).
    """
    if steps < 1 or not 0 < beta_start <= beta_end < 1:
        need = "steps >= 1 and 0 < beta_start <= beta_end < 1"
        raise ValueError(f"need {need}, not {steps}, {beta_start} and {beta_end}")
    a = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
    known = {
        "linear": np.linspace(beta_start, beta_end, steps),
        "scaled_linear": np.linspace(beta_start**0.5, beta_end**0.5, steps) ** 2,
        "cosine": np.minimum(1 - a[1:] / a[:-1], 0.999),
    }
    if kind not in known:
        raise ValueError(f"betas {kind!r} are not known; use {', '.join(known)}")
    return known[kind]


def ddpm_levels(betas: ArrayLike) -> np.ndarray:
    """Returns sigma_t = sqrt((1 - abar_t) / abar_t) of each step, in float64, [T], increasing.

    Computed as sqrt(expm1(-sum log1p(-beta))), which loses no digits at small t.

    Raises:
        ValueError: unless betas is [T], T >= 1, with 0 < beta < 1. At a beta of 1 no data are left, and sigma
            is infinite.
    """
    betas = np.asarray(betas, np.float64)
    if betas.ndim != 1 or not len(betas) or not ((betas > 0) & (betas < 1)).all():
        raise ValueError(f"betas of shape {betas.shape} must be [T], and each between 0 and 1")
    return np.sqrt(np.expm1(-np.cumsum(np.log1p(-betas))))


def ddpm_betas_at(sigmas: ArrayLike) -> np.ndarray:
    """Returns beta_t of the process whose steps have the given noise levels, [T]: inverse of `ddpm_levels`.

        beta_t = (sigma_t^2 - sigma_{t-1}^2) / (1 + sigma_t^2),    sigma_{-1} = 0

    With some of the levels of a longer process, these are the betas of its shorter copy (Nichol & Dhariwal
    2021, equation 19). Raises ValueError unless sigmas is [T], positive, finite and increasing.
    """
    sigmas = _table(sigmas)
    before = np.append(0.0, sigmas[:-1])
    return (sigmas - before) * (sigmas + before) / (1 + sigmas**2)


def ddpm_step(sigma: Float[Array, "*n"], sigmas: ArrayLike) -> Float[Array, "*n"]:
    """Returns the step t at which the process has the noise level, with fractions between two steps.

    Linear in ln sigma between the levels sigmas[T] of `ddpm_levels`; 0 below the first level, and T - 1 above
    the last. Networks of DDPM are given it as c_noise. Raises ValueError as `ddpm_betas_at` does.
    """
    table = jnp.asarray(np.log(_table(sigmas)), jnp.float32)
    return jnp.interp(jnp.log(sigma), table, jnp.arange(len(table), dtype=jnp.float32))


def _table(sigmas: ArrayLike) -> np.ndarray:
    """Returns the levels of a table. Raises ValueError unless they are positive, finite and go up."""
    sigmas = np.asarray(sigmas, np.float64)
    if sigmas.ndim != 1 or not len(sigmas) or not np.isfinite(sigmas).all():
        raise ValueError(f"sigmas of shape {sigmas.shape} must be [T], and finite")
    if not (sigmas > np.append(0.0, sigmas[:-1])).all():
        raise ValueError("sigmas must be positive, and must go up: they are those of t = 0, 1, ...")
    return sigmas

"""Weights lambda(sigma) of the loss of denoising score matching at each noise level.

A weight multiplies the squared error of the score, 1/2 |s + n / sigma|^2. The error of the noise prediction
is sigma^2 times, and that of the denoiser sigma^4 times as large, so the weights of papers that train these
are given here with a factor sigma^2 or sigma^4.

>>> import jax.numpy as jnp
>>> min_snr(5.0)(jnp.array([0.5, 1.0])).tolist()
[0.25, 1.0]
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore.types import Array

Levels = Float[Array, "b"]
Weight = Callable[[Array], Array]


def one(sigma: Levels) -> Levels:
    """lambda(sigma) = 1: the squared error of the score itself (Vincent 2011)."""
    return jnp.ones_like(sigma)


def sigma_squared(sigma: Levels) -> Levels:
    """lambda(sigma) = sigma^2: every level's loss of the same order (Song & Ermon 2019, section 4.2)."""
    return sigma**2


def edm(sigma_data: float) -> Weight:
    """lambda(sigma) = sigma^2 (1 + sigma^2 / sigma_data^2), the weight of Karras et al. 2022.

    Their (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 |D(x) - x0|^2 (table 1), for the score, times 1/2:
    with `preconditioned`, the network's output has unit weight. Raises ValueError unless sigma_data > 0.
    """
    if sigma_data <= 0:
        raise ValueError(f"sigma_data = {sigma_data} must be positive")
    return lambda sigma: sigma**2 * (1 + (sigma / sigma_data) ** 2)


def flow_matching(sigma: Levels) -> Levels:
    """lambda(sigma) = sigma^2 (1 + sigma)^2: the squared error of the velocity n - x0 of flow matching.

    With `score.preconditioned_flow` the loss is 1/2 |F(x_t, t) - (n - x0)|^2, F the network. Its logit-normal
    times are `noise.lognormal(0, 1)`. The weight of a v-prediction's squared error is `edm(1.0)`.

    Source: Lipman et al. 2023, equation 14; Esser et al. 2024, section 3.1; Salimans & Ho 2022.
    """
    return (sigma * (1 + sigma)) ** 2


def likelihood(density: Levels) -> Weight:
    """lambda(sigma) = 2 sigma / q(sigma), q the density that each sigma was drawn from.

    Whatever q, the mean of noise_conditional is then int sigma E|s + n / sigma|^2 dsigma, which up to
    a constant bounds the negative log likelihood, in nats (Song, Durkan et al. 2021, theorem 1,
    whose g(t)^2 dt is 2 sigma dsigma here, for every Gaussian process). q decides the variance;
    their importance sampling, p(t) ~ g(t)^2 / std(t)^2, is sigma uniform in its logarithm:

        u = noise.stratified(key, n)
        schedule = noise.geometric(sigma_min, sigma_max)
        weight = likelihood(noise.density(schedule, u))     # 2 sigma^2 ln(sigma_max / sigma_min)
        losses = noise_conditional(score, key, x, schedule(u), weight=weight)
    """
    return lambda sigma: 2 * sigma / density


def min_snr(gamma: float = 5.0) -> Weight:
    """lambda(sigma) = sigma^4 min(1 / sigma^2, gamma): the denoiser's error times the clipped SNR.

    Source: Hang et al. 2023, "Efficient diffusion training via min-SNR weighting", with gamma = 5. Raises
    ValueError unless gamma > 0.
    """
    _require_positive(gamma)
    return lambda sigma: sigma**2 * jnp.minimum(1.0, gamma * sigma**2)


def soft_min_snr(gamma: float = 4.0) -> Weight:
    """lambda(sigma) = sigma^4 gamma / (1 + gamma sigma^2), which is `min_snr` without its kink.

    Source: Crowson et al. 2024, "Hourglass diffusion transformer", section 3.1; their gamma is
    1 / sigma_data^2. Raises ValueError unless gamma > 0.
    """
    _require_positive(gamma)
    return lambda sigma: sigma**4 * gamma / (1 + gamma * sigma**2)


def sigmoid(bias: float = 0.0) -> Weight:
    """lambda(sigma) = sigma^2 sigmoid(bias + ln sigma^2): the noise prediction's error, less at low noise.

    Source: Kingma & Gao 2023, section 5, with bias = 2; Hoogeboom et al. 2024, "Simpler diffusion". They
    define it for sigma uniform in its logarithm, as from `noise.geometric`.
    """
    return lambda sigma: sigma**2 * jax.nn.sigmoid(bias + 2 * jnp.log(sigma))


def uncertain(loss: Levels, u: Levels, size: int) -> Levels:
    """loss / e^u + size u / 2: the loss with a learnt uncertainty u of each example's noise level.

    It has its minimum at e^u = 2 loss / size, where all noise levels have gradients of the same size.
    `edm2.Uncertainty` is a network for u; `size` is the number of values of an example.

    Source: Karras et al. 2024, equation 14, for 1/2 of their loss; Kendall et al. 2018.
    """
    return loss / jnp.exp(u) + size * u / 2


def _require_positive(gamma: float) -> None:
    if gamma <= 0:
        raise ValueError(f"gamma = {gamma} must be positive")

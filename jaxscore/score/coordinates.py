"""From a denoiser, a prediction, a log density or a score in other coordinates to a score, and back."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore.types import (
    Array,
    ScoreFn,
    Sigma,
    right,
    shaped,
)

Batch = Float[Array, "b *event"]
Levels = Float[Array, "b"]


def vp(score: ScoreFn) -> ScoreFn:
    """s(x, sigma) = score(x / r, sigma) / r, r = sqrt(1 + sigma^2), from a score in VP coordinates.

    The variance-preserving process is x' = alpha x0 + sqrt(1 - alpha^2) n. This library's x = x0 + sigma n,
    divided by r = 1 / alpha, is x', if sigma is the noise-to-signal ratio of x'. The change of variables
    divides the gradient by r. A score that was learnt in VP coordinates (Ho et al. 2020; Song et al. 2021,
    equation 11) is sampled and evaluated here like any other.
    """
    score = shaped(score)

    def ve_score(x: Batch, sigma: Levels) -> Batch:
        r = right(jnp.sqrt(1 + sigma**2), x)
        return score(x / r, sigma) / r

    return shaped(ve_score)


def sub_vp(score: ScoreFn) -> ScoreFn:
    """s(x, sigma) = alpha score(alpha x, sigma), from a score in coordinates of the sub-VP process.

    The process is x' = alpha x0 + (1 - alpha^2) n. Its noise-to-signal ratio sigma is (1 - alpha^2) / alpha,
    so alpha = 2 / (sigma + sqrt(sigma^2 + 4)). Source: Song et al. 2021, equation 29.
    """
    score = shaped(score)

    def ve_score(x: Batch, sigma: Levels) -> Batch:
        alpha = right(2 / (sigma + jnp.sqrt(sigma**2 + 4)), x)
        return alpha * score(alpha * x, sigma)

    return shaped(ve_score)


def from_velocity(velocity: Callable[[Array, Array], Array]) -> ScoreFn:
    """s(x, sigma) = -(x + v(x_t, t)) / (sigma (1 + sigma)), from the velocity of flow matching.

        x_t = (1 - t) x0 + t n,    v(x_t, t) = E[n - x0 | x_t],    t = sigma / (1 + sigma)

    Time t = 0 is data and t = 1 is noise; a velocity with the opposite time is v'(x, t) = -v(x, 1 - t). Here
    x = x_t / (1 - t), and x0 = x_t - t v. Source: Lipman et al. 2023; Liu et al. 2023 (rectified flow).
    """
    velocity = shaped(velocity, "velocity")

    def score(x: Batch, sigma: Levels) -> Batch:
        v = velocity(x / right(1 + sigma, x), sigma / (1 + sigma))
        return -(x + v) / right(sigma * (1 + sigma), x)

    return shaped(score)


def from_v_prediction(prediction: ScoreFn) -> ScoreFn:
    """s(x, sigma) = -x / r^2 - v(x / r, sigma) / (sigma r), r = sqrt(1 + sigma^2), from a v-prediction.

    v(x', sigma) = E[alpha n - sqrt(1 - alpha^2) x0 | x'] is a function in VP coordinates, x' = x / r and
    alpha = 1 / r; see `vp`. Source: Salimans & Ho 2022, appendix D.
    """
    prediction = shaped(prediction, "v-prediction")

    def score(x: Batch, sigma: Levels) -> Batch:
        s, r = right(sigma, x), right(jnp.sqrt(1 + sigma**2), x)
        return -x / r**2 - prediction(x / r, sigma) / (s * r)

    return shaped(score)


def from_denoiser(denoiser: ScoreFn) -> ScoreFn:
    """s(x, sigma) = (D(x, sigma) - x) / sigma^2, from a denoiser D(x, sigma) = E[x0 | x].

    Tweedie's formula (Robbins 1956; Karras et al. 2022, equation 3).
    """
    denoiser = shaped(denoiser, "denoiser")
    return shaped(lambda x, sigma: (denoiser(x, sigma) - x) / right(sigma, x) ** 2)


def from_noise_prediction(noise: ScoreFn) -> ScoreFn:
    """s(x, sigma) = -eps(x, sigma) / sigma, from a noise prediction eps(x, sigma) = E[n | x].

    Ho et al. 2020, section 3.2; Vincent 2011, equation 11.
    """
    noise = shaped(noise, "noise prediction")
    return shaped(lambda x, sigma: -noise(x, sigma) / right(sigma, x))


def from_log_density(log_density: Callable[[Array, Array], Array]) -> ScoreFn:
    """s(x, sigma) = grad_x log p(x, sigma), from log_density(x[b, ...], sigma[b]) -> [b].

    log_density need not be normalised: the log density of an energy model is -energy.
    """

    def total(x: Batch, sigma: Levels) -> Array:
        values = log_density(x, sigma)
        if values.shape != sigma.shape:
            need = f"and not one number for each of {len(sigma)} rows"
            raise ValueError(f"the log density has shape {values.shape}, {need}")
        return jnp.sum(values)

    return shaped(jax.grad(total))


def denoise(score: ScoreFn, x: Batch, sigma: Sigma) -> Batch:
    """E[x0 | x] = x + sigma^2 s(x, sigma): the mean of the clean example given the noisy one.

    Tweedie's formula; the final denoising step of Song & Ermon 2020, and of Jolicoeur-Martineau et
    al. 2021, when sigma is the last level.
    """
    score = shaped(score)
    mean = lambda x, sigma: x + right(sigma, x) ** 2 * score(x, sigma)
    return shaped(mean)(x, sigma)

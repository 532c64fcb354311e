"""Langevin dynamics: samplers that stay at a noise level and converge to its density.

All of them make the update

    x <- x + e s(x, sigma) + sqrt(2 e) z,    z ~ N(0, I)

and differ in the step size e. Their memory is a `Statistics`. The literature has two conventions: Song &
Ermon 2019 write alpha / 2 and sqrt(alpha), so their alpha is 2 e. The step that they quote, 2e-5, is
nevertheless the e of this update in their code.

A finite step has a bias. On a Gaussian of variance v the update is x <- (1 - e/v) x + sqrt(2 e) z. It
converges to the variance v / (1 - e / (2 v)), and diverges if e >= 2 v. No density p_sigma is narrower than
sigma, because level sigma adds N(0, sigma^2 I). A step e well below 2 sigma^2 is therefore safe, with a
relative bias of the variance of about e / (2 sigma^2) or less. `metropolis` removes the bias.

>>> step = annealed(2e-5, 0.01)                     # NCSN's, 0.2 sigma^2
>>> round(float(langevin_stability(step, 0.5)), 6)  # |1 - 0.2|: the factor of a deviation in one step
0.8
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Float

from jaxscore import noise
from jaxscore.samplers.base import Batch, Sampler, Scalar, at
from jaxscore.samplers.statistics import count_step, no_statistics, norms
from jaxscore.types import Array, right

StepSize = float | Callable[[Array], Array]
"""The step size e, or a function of sigma that returns e."""


def langevin(step_size: StepSize) -> Sampler:
    """One unadjusted Langevin step at sigma; one evaluation.

        x <- x + e s(x, sigma) + sqrt(2 e) z,    z ~ N(0, I)

    The step size e is `step_size`, or step_size(sigma) if it is a function. x stays at level sigma.

    Raises:
        ValueError: if `step_size` is a number that is not positive.
    """
    size = sizes(step_size)
    return _stepping(lambda sigma, s, z: jnp.broadcast_to(size(sigma), s.shape[:1]))


def langevin_signal_to_noise(ratio: float, *, limit: float = 1.0) -> Sampler:
    """Langevin step whose drift is `ratio` times as long as its noise, for each example by itself.

        e = 2 (r |z| / |s|)^2,    so that |e s| / |sqrt(2 e) z| = r

    In high dimensions `|z|` and `|s|` hardly vary and `|s|` is near sqrt(D) / sigma, so the step is close to
    `langevin(lambda sigma: 2 * (r * sigma)**2)`. In low dimensions e depends on x and z, which makes the
    result too wide. There e has no bound near a mode, where s = 0, and is therefore limited to `limit`
    sigma^2. With limit = 1 the drift is at most the full denoising step E[x0 | x] - x; limit = inf is the
    paper's formula. One evaluation.

    Raises:
        ValueError: unless ratio and limit are positive.

    Source: the corrector of Song et al. 2021, algorithm 4; r = 0.16 on CIFAR-10.
    """
    _check_ratio(ratio, limit)

    def size(sigma, s, z):
        return jnp.minimum(2 * (ratio * norms(z) / norms(s)) ** 2, limit * sigma**2)

    return _stepping(size)


def langevin_signal_to_noise_coupled(ratio: float, *, limit: float = 1.0) -> Sampler:
    """`langevin_signal_to_noise` with means of the norms over the batch: one step size for all, as published.

    Use it to reproduce Song et al. 2021, whose code takes these means. The means COUPLE the samples: sample i
    depends on the whole batch and on its size, but not on the number of devices. In a large batch the bias of
    the per-example step vanishes in any dimension.

    Raises:
        ValueError: unless ratio and limit are positive.
    """
    _check_ratio(ratio, limit)

    def size(sigma, s, z):
        e = 2 * (ratio * norms(z).mean() / norms(s).mean()) ** 2
        return jnp.broadcast_to(jnp.minimum(e, limit * sigma**2), s.shape[:1])

    return _stepping(size)


def annealed(epsilon: float, sigma_min: float) -> Callable[[Array], Array]:
    """Step size of annealed Langevin dynamics, a function of sigma.

        e(sigma) = epsilon (sigma / sigma_min)^2

    The lecture's sampler over sigma_1 > ... > sigma_L, with T steps at each level, is then
    `repeat(langevin(annealed(epsilon, sigma_L)), T)` (Song & Ermon 2019, algorithm 1).

    Raises:
        ValueError: unless both are positive and epsilon < 2 sigma_min^2. The quotient e / sigma^2 is the same
            at every level, and a level diverges if it is 2 or more.
    """
    if epsilon <= 0 or sigma_min <= 0:
        raise ValueError(f"epsilon = {epsilon} and sigma_min = {sigma_min} must be positive")
    if epsilon >= 2 * sigma_min**2:
        raise ValueError(
            f"epsilon = {epsilon} at sigma_min = {sigma_min}: Langevin dynamics diverges unless"
            f" epsilon < 2 sigma_min^2 = {2 * sigma_min**2:.4g}"
        )
    return lambda sigma: epsilon * (sigma / sigma_min) ** 2


def langevin_stability(step_size: StepSize, sigma: float | Array) -> Array:
    """Factor by which one step multiplies a deviation from the mean of N(0, sigma^2 I), elementwise.

        |1 - e / sigma^2|

    N(x0, sigma^2 I) is the narrowest density that p_sigma can be. Below 1 the dynamics forgets its start.
    From 1 on, where e >= 2 sigma^2, it diverges for any number of steps and levels.

    Raises:
        ValueError: if `step_size` is a number that is not positive.
    """
    sigma = jnp.asarray(sigma)
    return jnp.abs(1 - sizes(step_size)(sigma) / sigma**2)


def sizes(step_size: StepSize) -> Callable[[Array], Array]:
    """The step size as a function of sigma. Raises ValueError if a number is not positive."""
    if callable(step_size):
        return step_size
    if step_size <= 0:
        raise ValueError(f"step_size = {step_size} must be positive")
    return lambda sigma: jnp.full_like(sigma, step_size)


def moved(x: Batch, s: Batch, z: Batch, e: Float[Array, "b"]) -> Batch:
    """x + e s + sqrt(2 e) z, with a step size e for each row."""
    return x + right(e, x) * s + right(jnp.sqrt(2 * e), x) * z


def _stepping(size: Callable[[Scalar, Array, Array], Array]) -> Sampler:
    """The Langevin step with e = size(sigma, s, z), of shape [b]."""

    def step(key, x, memory, score, sigma, sigma_next):
        del sigma_next  # a Langevin step stays at sigma
        z = noise.normal(key, x.shape, x.dtype)
        s = at(score, x, sigma)
        e = size(sigma, s, z)
        return moved(x, s, z, e), count_step(memory, s, z, e, sigma)

    return Sampler(no_statistics, step)


def _check_ratio(ratio: float, limit: float) -> None:
    if ratio <= 0 or limit <= 0:
        raise ValueError(f"ratio = {ratio} and limit = {limit} must be positive")

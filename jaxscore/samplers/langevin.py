"""Langevin dynamics: samplers that stay at a noise level and let its density take hold.

All of them are the update

    x <- x + e s(x, sigma) + sqrt(2 e) z,    z ~ N(0, I),

and differ in the step size e; their memory is a `Statistics`. Beware of the literature's two conventions:
Song & Ermon 2019 write alpha / 2 and sqrt(alpha), so their alpha is 2 e, although the step they quote,
2e-5, is the e of this update in their code.

How wrong a finite step is: on a Gaussian of variance v the update is x <- (1 - e/v) x + sqrt(2 e) z,
which settles at the variance v / (1 - e / (2 v)), and diverges if e >= 2 v. A level sigma adds
N(0, sigma^2 I), so no density p_sigma is narrower than sigma, and e well below 2 sigma^2 is safe: the
bias is then at most e / (2 sigma^2). `metropolis` takes it away.

>>> step = annealed(2e-5, 0.01)                     # NCSN's, 0.2 sigma^2
>>> round(float(langevin_stability(step, 0.5)), 6)  # |1 - 0.2|: what a step leaves of a disturbance
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
"""e itself, or e as a function of sigma."""


def langevin(step_size: StepSize) -> Sampler:
    """x <- x + e s(x, sigma) + sqrt(2 e) z, z ~ N(0, I), e = step_size or step_size(sigma).

    One unadjusted Langevin step at sigma; x stays there. One evaluation. Raises ValueError if a
    number step_size is not positive.
    """
    size = sizes(step_size)
    return _stepping(lambda sigma, s, z: jnp.broadcast_to(size(sigma), s.shape[:1]))


def langevin_signal_to_noise(ratio: float, *, limit: float = 1.0) -> Sampler:
    """The Langevin step whose drift is `ratio` times as long as its noise: e = 2 (r |z| / |s|)^2.

    The corrector of Song et al. 2021 (algorithm 4; r = 0.16 on CIFAR-10), every example with a step of
    its own: |e s| / |sqrt(2 e) z| = r for each. In many dimensions |z| and |s| hardly vary and |s| is
    near sqrt(D) / sigma: it is nearly `langevin(lambda sigma: 2 * (r * sigma)**2)`. In few, e depends on
    x and z, which Langevin dynamics does not allow for (it is too wide), and has no bound near a mode,
    where s = 0; therefore e is at most `limit` sigma^2. At 1 the drift is at most the whole denoising
    step, E[x0 | x] - x; float("inf") is the paper's formula. One evaluation. Raises ValueError unless
    ratio and limit are positive.
    """
    _check_ratio(ratio, limit)

    def size(sigma, s, z):
        return jnp.minimum(2 * (ratio * norms(z) / norms(s)) ** 2, limit * sigma**2)

    return _stepping(size)


def langevin_signal_to_noise_coupled(ratio: float, *, limit: float = 1.0) -> Sampler:
    """The same with the means over the batch of |z| and |s|: one step size for all, as published.

    For reproducing Song et al. 2021, whose code takes these means: they COUPLE the samples, so sample i
    depends on the whole batch and on its size (though not on how many devices share it). In a large
    batch it has none of the per-example step's bias, whatever the dimension. Raises ValueError unless
    ratio and limit are positive.
    """
    _check_ratio(ratio, limit)

    def size(sigma, s, z):
        e = 2 * (ratio * norms(z).mean() / norms(s).mean()) ** 2
        return jnp.broadcast_to(jnp.minimum(e, limit * sigma**2), s.shape[:1])

    return _stepping(size)


def annealed(epsilon: float, sigma_min: float) -> Callable[[Array], Array]:
    """The step size e(sigma) = epsilon (sigma / sigma_min)^2 of annealed Langevin dynamics.

    The lecture's sampler over sigma_1 > ... > sigma_L, T steps at each (Song & Ermon 2019,
    algorithm 1), is then `repeat(langevin(annealed(epsilon, sigma_L)), T)`. Raises ValueError unless
    both are positive and epsilon < 2 sigma_min^2: e / sigma^2 is the same at every level, and from 2
    on every level diverges.
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
    """|1 - e / sigma^2|: what one step leaves of a disturbance of N(0, sigma^2 I), elementwise.

    The narrowest that p_sigma can be is N(x0, sigma^2 I). Below 1 the dynamics forgets its start; from
    1 on, which is e >= 2 sigma^2, it diverges, however many steps or levels there are. Raises
    ValueError if a number step_size is not positive.
    """
    sigma = jnp.asarray(sigma)
    return jnp.abs(1 - sizes(step_size)(sigma) / sigma**2)


def sizes(step_size: StepSize) -> Callable[[Array], Array]:
    """e as a function of sigma. Raises ValueError if a number step_size is not positive."""
    if callable(step_size):
        return step_size
    if step_size <= 0:
        raise ValueError(f"step_size = {step_size} must be positive")
    return lambda sigma: jnp.full_like(sigma, step_size)


def moved(x: Batch, s: Batch, z: Batch, e: Float[Array, "b"]) -> Batch:
    """x + e s + sqrt(2 e) z, each row with a step size e of its own."""
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

"""Reflow: the objective whose flow is straight, and its pairs of examples and noise."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Float

from jaxscore import samplers
from jaxscore.types import Array, Key, ScoreFn, Sigma, alike, per_row, right, shaped, wide

Batch = Float[Array, "b *event"]
Loss = Float[Array, "b"]
Objective = Callable[[ScoreFn, Key, Array, Array], Array]


def pairs(
    key: Key,
    shape: tuple[int, ...],
    sigmas: Float[Array, "n_plus_1"],
    score: ScoreFn,
    sampler: samplers.Sampler,
    *,
    moments: samplers.Moments | None = None,
) -> tuple[Batch, Batch]:
    """Returns (x, n): ends x of the probability flow, and n = (start - x) / sigma_1, with starts at sigma_1.

    The line x + sigma n goes from the end to the start. Arguments and errors are those of
    `samplers.generate`; the sampler should be deterministic.
    """
    x = samplers.generate(key, shape, sigmas, score, sampler, moments=moments)
    start = samplers.start(key, shape, sigmas[0], moments)
    return x, (start - x) / sigmas[0]


def reflow(n: Batch) -> Objective:
    """1/2 |s(x + sigma n, sigma) + n / sigma|^2, x and n as `pairs` returns them: denoising with given noise.

    The lines between ends of a deterministic flow cross less than random lines. The flow of the new score is
    therefore straighter, and a few steps of `samplers.euler` follow it. Give `objectives.over_levels` a
    weight, such as `objectives.edm`.

    Source: Liu et al. 2023, "Flow straight and fast", equation 1, divided by the weight of the end.
    """

    def objective(score: ScoreFn, key: Key, x: Batch, sigma: Sigma) -> Loss:
        del key  # the noise is given
        x = wide(x)
        given, s = alike(n, x, "noise"), right(per_row(sigma, x), x)
        error = shaped(score)(x + s * given, sigma) + given / s
        return jnp.sum(error**2, axis=tuple(range(1, x.ndim))) / 2

    return objective

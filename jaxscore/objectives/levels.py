"""An objective at the noise levels of a schedule."""

from collections.abc import Callable

import jax

from jaxscore import noise
from jaxscore.objectives.matching import Batch, Objective, noise_conditional
from jaxscore.objectives.weights import Weight
from jaxscore.types import Key, Schedule, ScoreFn, per_row, wide


def over_levels(objective: Objective, schedule: Schedule, *, weight: Weight | None = None) -> Callable:
    """Returns losses(score, key, x) -> [b]: the objective at noise levels drawn from the schedule.

    The levels are schedule(u) with u stratified over the batch (`noise.stratified`). For the noise levels
    too, call losses(score, key, x, with_sigma=True) -> ([b], [b]); `diagnostics.by_sigma` takes both.

    Args:
        objective: any objective of this module; `noise_conditional` is given clean x.
        schedule: the training distribution of sigma, as a quantile function (see `noise`).
        weight: lambda(sigma), which replaces the weight sigma^2 of `noise_conditional`, and multiplies
            the loss of any other objective; None leaves the objective as it is.
    """

    def losses(score: ScoreFn, key: Key, x: Batch, *, with_sigma: bool = False):
        (key_sigma, key_noise), x = jax.random.split(key), wide(x)
        sigma = per_row(schedule(noise.stratified(key_sigma, len(x))), x)
        if weight is None:
            loss = objective(score, key_noise, x, sigma)
        elif objective is noise_conditional:
            loss = noise_conditional(score, key_noise, x, sigma, weight=weight)
        else:
            loss = per_row(weight(sigma), x, "weight") * objective(score, key_noise, x, sigma)
        return (loss, sigma) if with_sigma else loss

    return losses

"""Averages of the parameters over training; samples are drawn with the average.

>>> import jax.numpy as jnp
>>> decay = constant(0.999)
>>> [round(float(decay(jnp.asarray(n))), 4) for n in (0, 90, 100_000)]
[0.1, 0.91, 0.999]

Snapshots of power-function averages of two widths are enough to make the average of any other width
afterwards (post-hoc EMA, Karras et al. 2024, arXiv:2312.02696, section 3 and appendix C):

>>> steps, gammas = np.repeat(np.arange(100, 1001, 100), 2), np.tile([gamma(0.05), gamma(0.10)], 10)
>>> weights = posthoc_weights(steps, gammas, 1000, gamma(0.07))
>>> round(misfit(weights, steps, gammas, 1000, gamma(0.07)), 3)
0.009
"""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from jaxscore.types import Array, Params

Decay = Callable[[Array], Array]


def constant(decay: float, *, warm_up: bool = True) -> Decay:
    """Returns the decay min(m, (1 + n) / (10 + n)) at update n, or m without warm-up; m is `decay`.

    With warm-up the time constant of the average is at most (10 + n) / 9 updates, so that the average soon
    forgets the random start. Song & Ermon 2020 use m = 0.999 (technique 5).

    Raises:
        ValueError: unless 0 <= decay < 1.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay = {decay} must lie in [0, 1)")
    if not warm_up:
        return lambda n: jnp.asarray(decay)
    return lambda n: jnp.minimum(decay, (1 + n) / (10 + n))


def halflife(images: float, *, batch: int, ramp: float | None = 0.05) -> Decay:
    """Returns the decay whose average has a half-life of `images` training images.

        m = 0.5^(batch / h),    h = min(images, ramp * n * batch)

    n * batch images have been seen before update n. Without a ramp h = images. With a ramp, update 0 forgets
    the random start.

    Args:
        images: half-life, in training images.
        batch: number of images in a training step.
        ramp: maximum half-life as a fraction of the images seen; None for no limit.

    Raises:
        ValueError: unless all three are positive.

    Source: EDM, Karras et al. 2022, arXiv:2206.00364, appendix F, with images = 500,000 on CIFAR-10 and
    ramp = 0.05.
    """
    if not (images > 0 and batch > 0 and (ramp is None or ramp > 0)):
        raise ValueError(f"images = {images}, batch = {batch} and ramp = {ramp} must be positive")
    steps = images / batch  # steps, because the number of images overflows an int32 in long trainings
    limit = lambda n: steps if ramp is None else jnp.minimum(steps, ramp * n)
    return lambda n: jnp.exp2(-1 / jnp.asarray(limit(n)))


def start(params: Params) -> Params:
    """Returns a copy of the parameters in float32, or in their own dtype if it is wider or has no fractions.

    In bfloat16 the average would stop changing: at decay 0.999 each change is less than half of the last
    digit.
    """
    wide = lambda leaf: jnp.promote_types(leaf.dtype, jnp.float32) if _mixed(leaf) else leaf.dtype
    return jax.tree.map(lambda leaf: jnp.array(leaf, wide(leaf)), params)


def update(average: Params, params: Params, decay: float | Array) -> Params:
    """Returns decay * average + (1 - decay) * params for each leaf, in the dtype of the average.

    Counters, keys and other leaves without fractions are not averaged: the result has those of `params`.
    """
    mix = lambda old, new: (decay * old + (1 - decay) * new.astype(old.dtype)).astype(old.dtype)
    return jax.tree.map(lambda old, new: mix(old, new) if _mixed(old) else new, average, params)


def _mixed(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


# Any width afterwards ---------------------------------------------------------------------------

WIDEST = 12**-0.5
"""Relative width of gamma = 0, which is the mean over all of training."""


def power(gamma: float) -> Decay:
    """Returns the decay (1 - 1/t)^(gamma + 1) at the t-th update, t = n + 1; the first one forgets the start.

    The average over t updates then has weights proportional to s^gamma for s in (0, t]. The weight of the
    parameters after update s is (s^(gamma + 1) - (s - 1)^(gamma + 1)) / t^(gamma + 1).

    Raises:
        ValueError: if gamma < 0.

    Source: Karras et al. 2024, section 3.1.
    """
    if gamma < 0:
        raise ValueError(f"gamma = {gamma} must not be negative")
    # After 10^5 updates 1 - 1/t loses the digits of 1/t in float32; log1p keeps them.
    return lambda n: jnp.exp((gamma + 1) * jnp.log1p(-1 / (n + 1)))


def gamma(sigma_rel: float) -> float:
    """Returns the exponent of the profile whose standard deviation is sigma_rel times the training time.

        sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))

    sigma_rel = 0.05 gives 16.97, and 0.10 gives 6.94.

    Raises:
        ValueError: unless 0 < sigma_rel <= WIDEST = 12^(-1/2).

    Source: Karras et al. 2024, section 3.1.
    """
    if not 0 < sigma_rel <= WIDEST:
        raise ValueError(f"sigma_rel = {sigma_rel} must lie in (0, {WIDEST:.4f}]")
    v = sigma_rel**-2
    # gamma^3 + 7 gamma^2 + (16 - v) gamma + 12 - v = 0 has one root that is not negative.
    return max(0.0, float(np.roots([1, 7, 16 - v, 12 - v]).real.max()))


def posthoc_weights(
    steps: Shaped[np.ndarray, " n"], gammas: Shaped[np.ndarray, " n"], step: int, gamma: float
) -> Float[np.ndarray, " n"]:
    """Returns the weights that bring a sum of n averages closest to the average of exponent gamma at `step`.

    The weights minimise the L2 distance between profiles over training time, among all weights with the sum
    1, in float64. The paper does not fix the sum, and then a constant parameter changes its value.

    Args:
        steps: numbers of updates before the averages were saved.
        gammas: exponents of the averages.
        step: number of updates of the wanted average.
        gamma: exponent of the wanted average.

    Raises:
        ValueError: if there are no averages, or unless 0 < steps[i] <= step for all of them.

    Source: Karras et al. 2024, appendix C.
    """
    steps, gammas = np.asarray(steps, np.float64), np.asarray(gammas, np.float64)
    if not (len(steps) and np.all(steps > 0) and np.all(steps <= step)):
        raise ValueError(f"there must be averages, of steps in 1..{step}")
    gram, target, norms, scale = _products(steps, gammas, step, gamma)
    # `gram` is nearly singular, because neighbouring snapshots are nearly equal: hence unit profiles, and a
    # cut-off at the precision of float64.
    both = np.linalg.lstsq(gram, np.stack([target, 1 / norms], axis=1), rcond=1e-13)[0]
    free, shift = both[:, 0], both[:, 1]
    units = free + shift * (1 / scale - free @ (1 / norms)) / (shift @ (1 / norms))
    return units / norms * scale


def misfit(
    weights: Float[np.ndarray, " n"],
    steps: Shaped[np.ndarray, " n"],
    gammas: Shaped[np.ndarray, " n"],
    step: int,
    gamma: float,
) -> float:
    """Returns |p - sum_i w_i p_i| / |p| in L2: the relative distance of the sum from the wanted profile p."""
    steps, gammas = np.asarray(steps, np.float64), np.asarray(gammas, np.float64)
    gram, target, norms, scale = _products(steps, gammas, step, gamma)
    units = weights * norms / scale
    return float(np.sqrt(max(0.0, 1 - 2 * units @ target + units @ gram @ units)))


def combine(averages: Iterable[Params], weights: Float[np.ndarray, " n"]) -> Params:
    """Returns sum_i w_i average_i for each leaf, as NumPy arrays in the dtype of the averages.

    The sum is computed in float64 on the host, because the weights have both signs. The averages are read
    one after another, so that few are in memory at a time.

    Raises:
        ValueError: if the numbers of averages and weights differ.
    """
    total, like = None, None
    for average, weight in zip(averages, weights, strict=True):
        weighted = jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float64) * weight, average)  # noqa: B023
        total = weighted if total is None else jax.tree.map(np.add, total, weighted)
        like = jax.tree.map(lambda leaf: leaf.dtype, average)
    return jax.tree.map(lambda leaf, dtype: leaf.astype(dtype), total, like)


def _products(steps, gammas, step, gamma):
    """Returns the inner products of unit profiles with each other and with the wanted one, and all norms."""
    norms = np.sqrt(_product(steps, gammas, steps, gammas))
    scale = np.sqrt(_product(float(step), gamma, float(step), gamma))
    gram = _product(steps[:, None], gammas[:, None], steps[None], gammas[None])
    target = _product(steps, gammas, float(step), gamma)
    return gram / norms[:, None] / norms[None], target / norms / scale, norms, scale


def _product(t, gamma, u, delta):
    """Returns the integral over s of p_gamma(s; t) p_delta(s; u), for profiles on [0, t] and [0, u].

        p_gamma(s; t) = (gamma + 1) s^gamma / t^(gamma + 1)
        integral = (gamma + 1) (delta + 1) / (gamma + delta + 1) (min / max)^later / max

    min and max are those of t and u; `later` is the exponent of the profile whose end is max.
    """
    ratio, exponent = np.minimum(t, u) / np.maximum(t, u), np.where(t < u, delta, gamma)
    return (gamma + 1) * (delta + 1) * ratio**exponent / ((gamma + delta + 1) * np.maximum(t, u))

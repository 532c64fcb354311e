"""Averages of the parameters over training: what is sampled from is the average.

>>> import jax.numpy as jnp
>>> decay = constant(0.999)
>>> [round(float(decay(jnp.asarray(n))), 4) for n in (0, 90, 100_000)]
[0.1, 0.91, 0.999]

Power-function averages of two widths, kept every so many steps, are enough to make the average of any
other width afterwards (post-hoc EMA, Karras et al. 2024, arXiv:2312.02696, section 3 and appendix C):

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
    """The decay m at update n: min(m, (1 + n) / (10 + n)) with warm-up, m without.

    m = 0.999 in Song & Ermon 2020 (technique 5). The warm-up lets the average forget the random
    start within a tenth of the updates so far. Raises ValueError unless 0 <= decay < 1.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay = {decay} must lie in [0, 1)")
    if not warm_up:
        return lambda n: jnp.asarray(decay)
    return lambda n: jnp.minimum(decay, (1 + n) / (10 + n))


def halflife(images: float, *, batch: int, ramp: float | None = 0.05) -> Decay:
    """Returns the decay whose average forgets half of its past in `images` training images.

    m = 0.5^(batch / h) with h = min(images, ramp * images seen), where n * batch images have been seen
    before update n; h = images without a ramp. Update 0 forgets the random start if there is a ramp.
    EDM: Karras et al. 2022, arXiv:2206.00364, appendix F, has images = 500,000 on CIFAR-10 and ramp = 0.05.

    Args:
        images: half-life, in training images.
        batch: images in a training step.
        ramp: the half-life is at most this fraction of the images seen; None for no limit.

    Raises ValueError unless all three are positive.
    """
    if not (images > 0 and batch > 0 and (ramp is None or ramp > 0)):
        raise ValueError(f"images = {images}, batch = {batch} and ramp = {ramp} must be positive")
    steps = images / batch  # Counted in steps, because images overflow an int32 in long trainings.
    limit = lambda n: steps if ramp is None else jnp.minimum(steps, ramp * n)
    return lambda n: jnp.exp2(-1 / jnp.asarray(limit(n)))


def start(params: Params) -> Params:
    """Returns a copy of the parameters in float32, or in their own dtype if it is wider.

    An average in bfloat16 stops moving: at decay 0.999 each step is less than half of its last digit.
    """
    return jax.tree.map(lambda leaf: jnp.array(leaf, jnp.promote_types(leaf.dtype, jnp.float32)), params)


def update(average: Params, params: Params, decay: float | Array) -> Params:
    """decay * average + (1 - decay) * params, leaf by leaf, each in the average's own dtype."""
    mix = lambda old, new: (decay * old + (1 - decay) * new.astype(old.dtype)).astype(old.dtype)
    return jax.tree.map(mix, average, params)


# Any width afterwards ---------------------------------------------------------------------------

WIDEST = 12**-0.5
"""The relative width of gamma = 0, which is the mean over all of training."""


def power(gamma: float) -> Decay:
    """The decay (1 - 1/t)^(gamma + 1) at the t-th update, t = n + 1; the first one forgets the start.

    The average over t updates then has weights proportional to s^gamma, of s in (0, t]: the weight of
    the s-th parameters is (s^(gamma + 1) - (s - 1)^(gamma + 1)) / t^(gamma + 1). Karras et al. 2024,
    section 3.1. Raises ValueError if gamma < 0.
    """
    if gamma < 0:
        raise ValueError(f"gamma = {gamma} must not be negative")
    # 1 - 1/t in float32 loses the digits that matter after 10^5 updates; log1p does not.
    return lambda n: jnp.exp((gamma + 1) * jnp.log1p(-1 / (n + 1)))


def gamma(sigma_rel: float) -> float:
    """The exponent of the profile whose standard deviation is sigma_rel of the training time.

    sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)), Karras et al. 2024, section 3.1: 0.05 is
    16.97, 0.10 is 6.94. Raises ValueError unless 0 < sigma_rel <= WIDEST = 12^(-1/2).
    """
    if not 0 < sigma_rel <= WIDEST:
        raise ValueError(f"sigma_rel = {sigma_rel} must lie in (0, {WIDEST:.4f}]")
    v = sigma_rel**-2
    # gamma^3 + 7 gamma^2 + (16 - v) gamma + 12 - v = 0 has one root that is not negative.
    return max(0.0, float(np.roots([1, 7, 16 - v, 12 - v]).real.max()))


def posthoc_weights(
    steps: Shaped[np.ndarray, " n"], gammas: Shaped[np.ndarray, " n"], step: int, gamma: float
) -> Float[np.ndarray, " n"]:
    """The weights of n kept averages whose sum is closest to the average of exponent gamma at `step`.

    Average i was taken after steps[i] updates with exponent gammas[i]. Least squares between profiles
    in the L2 norm over training time, in float64 (Karras et al. 2024, appendix C), among weights whose
    sum is 1: the paper lets it vary, and then a parameter that has not moved does not come out as it is.
    Raises ValueError if there are none, or unless 0 < steps[i] <= step.
    """
    steps, gammas = np.asarray(steps, np.float64), np.asarray(gammas, np.float64)
    if not (len(steps) and np.all(steps > 0) and np.all(steps <= step)):
        raise ValueError(f"there must be averages, of steps in 1..{step}")
    gram, target, norms, scale = _products(steps, gammas, step, gamma)
    # Of unit profiles, and cut where float64 ends: neighbouring snapshots are nearly the same.
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
    """|p - sum_i w_i p_i| / |p| of the profiles, in L2: how far the sum is from the average wanted."""
    steps, gammas = np.asarray(steps, np.float64), np.asarray(gammas, np.float64)
    gram, target, norms, scale = _products(steps, gammas, step, gamma)
    units = weights * norms / scale
    return float(np.sqrt(max(0.0, 1 - 2 * units @ target + units @ gram @ units)))


def combine(averages: Iterable[Params], weights: Float[np.ndarray, " n"]) -> Params:
    """sum_i w_i average_i, leaf by leaf; each is asked for when those before are done with.

    Summed in float64 on the host, because the weights have both signs; the leaves are NumPy arrays of
    the averages' own dtype. Raises ValueError if there are not as many averages as weights.
    """
    total, like = None, None
    for average, weight in zip(averages, weights, strict=True):
        weighted = jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float64) * weight, average)  # noqa: B023
        total = weighted if total is None else jax.tree.map(np.add, total, weighted)
        like = jax.tree.map(lambda leaf: leaf.dtype, average)
    return jax.tree.map(lambda leaf, dtype: leaf.astype(dtype), total, like)


def _products(steps, gammas, step, gamma):
    """Inner products of unit profiles with each other and with the one wanted; the norms of both."""
    norms = np.sqrt(_product(steps, gammas, steps, gammas))
    scale = np.sqrt(_product(float(step), gamma, float(step), gamma))
    gram = _product(steps[:, None], gammas[:, None], steps[None], gammas[None])
    target = _product(steps, gammas, float(step), gamma)
    return gram / norms[:, None] / norms[None], target / norms / scale, norms, scale


def _product(t, gamma, u, delta):
    """The integral over s of p_gamma(s; t) p_delta(s; u).

    p_gamma(s; t) = (gamma + 1) s^gamma / t^(gamma + 1) on [0, t], and the integral is
    (gamma + 1) (delta + 1) / (gamma + delta + 1) (min / max)^(the later one's exponent) / max.
    """
    ratio, exponent = np.minimum(t, u) / np.maximum(t, u), np.where(t < u, delta, gamma)
    return (gamma + 1) * (delta + 1) * ratio**exponent / ((gamma + delta + 1) * np.maximum(t, u))

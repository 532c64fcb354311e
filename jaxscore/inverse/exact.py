"""The exact posterior of a Gaussian mixture given a linear measurement: another mixture."""

import jax.numpy as jnp
import numpy as np

from jaxscore.inverse.measured import Measurement, event_of, require_noise
from jaxscore.inverse.operators.linear import Operator, check, dense, require_adjoint
from jaxscore.mixtures import Mixture


def posterior(
    mixture: Mixture,
    operator: Operator,
    y: Measurement,
    *,
    noise: float,
    event: tuple[int, ...] | None = None,
) -> Mixture:
    """Returns the distribution of x given y = A x + noise z, for x from the mixture: a `Mixture`.

        S_k = A C_k A' + noise^2 I,    K_k = C_k A' S_k^-1
        weights ~ w_k N(y; A m_k, S_k),    means m_k + K_k (y - A m_k),    covariances C_k - K_k A C_k

    The mixture has its density, draws and, at every noise level, its score. It is computed in float64,
    outside of jit.

    Args:
        mixture: the prior, in d dimensions.
        operator: a linear one.
        y: one measurement [*measurement].
        noise: its standard deviation; with 0, A C_k A' must have full rank.
        event: shape of an example, of d numbers; by default the one that the adjoint makes of y.

    Raises ValueError if the operator is not linear, if y has not the shape of A x or is not finite, or if the
    noise is below 0 or too small.

    Source: Bishop 2006, equations 2.113 to 2.117, for each component.
    """
    require_adjoint(operator, "the exact posterior")
    require_noise(noise)
    if not np.isfinite(y).all():
        raise ValueError("the measurement y has numbers that are not finite")
    d = mixture.means.shape[1]
    event = event_of(operator, y) if event is None else event
    check(operator, event)
    a = dense(operator, event)
    y, n = np.asarray(y, np.float64).reshape(-1), len(a)
    if a.shape[1] != d or y.size != n:
        given = f"the mixture has {d} dimensions, and y has {y.size} numbers"
        raise ValueError(f"A is a matrix of shape {a.shape}; {given}")
    means, priors = np.asarray(mixture.means, np.float64), _distinct(mixture)
    ac = a @ priors
    s = ac @ a.T + noise**2 * np.eye(n)
    if (np.linalg.cond(s) > 1e14).any():
        raise ValueError(f"noise = {noise} is too small: A C A' + noise^2 I has no inverse")
    gains, residuals = np.linalg.solve(s, ac).mT, y - means @ a.T
    logs = -0.5 * np.einsum("ki,ki->k", residuals, np.linalg.solve(s, residuals[..., None])[..., 0])
    logs = logs - 0.5 * np.linalg.slogdet(s)[1] + np.log(np.asarray(mixture.weights, np.float64))
    weights = np.exp(logs - logs.max())
    variances, axes = np.linalg.eigh(priors - gains @ ac)
    means = means + np.einsum("kij,kj->ki", np.broadcast_to(gains, (len(means), d, n)), residuals)
    parts = (weights / weights.sum(), means, np.broadcast_to(variances.clip(0), means.shape), axes)
    return Mixture(*(jnp.asarray(part, jnp.float32) for part in parts))


def _distinct(mixture: Mixture) -> np.ndarray:
    """Returns the covariances of the components, [k, d, d], or [1, d, d] if all are equal."""
    d = mixture.means.shape[1]
    variances = np.broadcast_to(np.asarray(mixture.variances, np.float64), mixture.means.shape)
    axes = np.eye(d)[None] if mixture.axes is None else np.asarray(mixture.axes, np.float64)
    alike = len(axes) == 1 and (variances == variances[:1]).all()
    variances = variances[:1] if alike else variances
    return (axes * variances[:, None]) @ axes.mT

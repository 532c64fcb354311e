"""A trained run, asked for the posterior of an observation of one's own.

from experiments import sbi
from jaxscore import launch

run = launch.open_run("runs/sbi-slcp")
theta = sbi.draw(run, jax.random.key(0), y, 1000)              # y [m] -> theta [1000, d]
log_p = sbi.log_density(run, jax.random.key(1), theta[:10], y)
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Num

from experiments.sbi.experiment import load, posterior_of
from experiments.sbi.tasks import TASKS
from jaxscore import noise
from jaxscore.launch import Run
from jaxscore.types import AnyArray, Array, Key


def draw(run: Run, key: Key, y: Num[AnyArray, "..."], n: int) -> Array:
    """Returns n draws theta [n, d] of the posterior of one observation y [m].

    Draw i depends on (key, i), up to rounding. An observation far from all simulations is answered too, but
    the answer means nothing, so compare y with simulations first. The function does not work inside jit.

    Raises ValueError if y is not one observation, such as a batch of them, if n < 1, or if a value of y or a
    draw is not finite.
    """
    return draw_each(run, noise.row_keys(key, 1), _one(run, y)[None], n)[0]


def draw_each(run: Run, key: Key, ys: Num[AnyArray, "..."], n: int) -> Array:
    """Returns n draws [k, n, d] for each of k observations ys [k, m]; the observations are independent.

    Row j is draw(run, keys[j], ys[j], n), where keys = noise.row_keys(key, k).

    Raises ValueError if ys are not observations [k, m], if k or n < 1, or if a value or a draw is not finite.
    """
    ys = _finite(ys, "the observation")
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"n = {n!r}: the number of draws must be an integer of at least 1")
    if not len(ys):
        raise ValueError(f"ys has shape {ys.shape}: at least one observation is needed")
    if ys.ndim != 2 or ys.shape[1] != _size(run):
        raise ValueError(f"ys has shape {ys.shape}; it must be observations [k, {_size(run)}]")
    rows = jax.vmap(lambda key: noise.row_keys(key, n))(noise.row_keys(key, len(ys)))
    program = jax.jit(run.experiment.samplers["posterior"])
    theta = program(run.params, rows.reshape(-1), jnp.repeat(ys, n, axis=0)).reshape(len(ys), n, -1)
    if lost := int(jnp.sum(~jnp.isfinite(theta).all(axis=(1, 2)))):
        raise ValueError(f"draws for {lost} of {len(ys)} observations are not finite; they lie too far away")
    return theta


def log_density(run: Run, key: Key, theta: Num[AnyArray, "n d"], y: Num[AnyArray, "..."]) -> Array:
    """Returns log p(theta | y) [n] in nats of parameters theta [n, d], for one observation y [m].

    Raises ValueError as `draw` does, and if a value of theta is not finite.
    """
    theta = _finite(theta, "theta")
    config, y = run.experiment.config, _one(run, y)
    program = jax.jit(posterior_of(config, load(config)).log_density)
    return program(run.params, key, theta, jnp.broadcast_to(y, (len(theta), len(y))))


def _one(run: Run, y: Num[AnyArray, "..."]) -> Array:
    y, m = _finite(y, "the observation"), _size(run)
    if y.shape != (m,):
        remedy = "draw_each takes several observations" if y.ndim == 2 else "see experiments.sbi.tasks"
        raise ValueError(f"y has shape {y.shape}; it must be one observation [{m}]; {remedy}")
    return y


def _finite(x: Num[AnyArray, "..."], what: str) -> Array:
    """Returns real numbers as JAX's floats; values too large for these are not finite either."""
    if np.iscomplexobj(x):
        raise ValueError(f"{what} is complex; give real numbers")
    x = jnp.asarray(x, float)
    if not bool(jnp.isfinite(x).all()):
        raise ValueError(f"{what} has values that are not finite")
    return x


def _size(run: Run) -> int:
    return TASKS[run.experiment.config.task].n_data

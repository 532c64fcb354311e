"""Simulations of a task: those that the network learns from, and those that it is judged by."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments.sbi import tasks
from experiments.sbi.coordinates import Coordinates, bounded, chain, standardised
from experiments.sbi.tasks import Task
from jaxscore import noise
from jaxscore.data import DataError
from jaxscore.types import AnyArray, Array, Key

BLOCK = 10_000
"""Number of simulations that are made at a time."""


class Simulations(NamedTuple):
    """Pairs of parameters and data; simulations with values that are not finite have been dropped."""

    theta: np.ndarray
    """Parameters [n, d], from the prior."""
    y: np.ndarray
    """Data [n, m], simulated from them."""
    dropped: int
    """Number of simulations that were dropped."""


def simulated(key: Key, task: Task, n: int) -> Simulations:
    """Returns the finite ones of n simulations of the task; simulation i depends on (key, i) alone.

    Raises DataError if fewer than two simulations are finite.
    """
    draw = jax.jit(partial(tasks.joint, task=task), static_argnames="n")
    blocks = range(0, n, BLOCK)
    keys = (noise.row_keys(key, min(BLOCK, n - start), start=start) for start in blocks)
    parts = [draw(rows, n=len(rows)) for rows in keys]
    theta, y = (np.concatenate([np.asarray(part[i]) for part in parts]) for i in range(2))
    fine = np.isfinite(theta).all(axis=1) & np.isfinite(y).all(axis=1)
    if fine.sum() < 2:
        raise DataError(f"{fine.sum()} of {n} simulations of {task.name} are finite; nothing can be learnt")
    return Simulations(theta[fine], y[fine], int(n - fine.sum()))


def split(found: Simulations, held_out: int) -> tuple[Simulations, Simulations]:
    """Returns the simulations for training, and the last `held_out` ones for the validation loss.

    Raises DataError if either part has fewer than two simulations.
    """
    n = len(found.theta) - held_out
    if min(n, held_out) < 2:
        raise DataError(f"{len(found.theta)} finite simulations: {held_out} of them cannot be held out")
    return Simulations(found.theta[:n], found.y[:n], found.dropped), Simulations(
        found.theta[n:], found.y[n:], 0
    )


def reordered(key: Key, y: Float[Array, "b m"], points: int) -> Float[Array, "b m"]:
    """Returns data with their points (`Task.points`) in a random order, another one for each row.

    A posterior given independent points does not depend on their order. A network that is trained on all
    orders overfits less.
    """
    if points == 1:
        return y
    orders = jax.vmap(jax.random.permutation)
    return orders(noise.row_keys(key, len(y)), y.reshape(len(y), points, -1)).reshape(y.shape)


def parameters(task: Task, theta: np.ndarray) -> Coordinates:
    """Returns the coordinates z of parameters, in which theta has mean 0 and standard deviation 1.

    A uniform prior first goes from its box to the whole space, where it is N(0, I).
    """
    box = [] if task.bounds is None else [bounded(*task.bounds)]
    return chain(*box, standardised(np.asarray(chain(*box).encode(theta))))


def data(y: np.ndarray, points: int = 1) -> Callable[[AnyArray], Array]:
    """Returns encode(y[b, m]) -> [b, e], which the network sees: `described` rows, standardised on y."""
    spread = y.reshape(len(y) * points, -1).std(axis=0)
    columns = standardised(np.asarray(described(y, points, spread)))
    return lambda y: columns.encode(described(y, points, spread))


def described(y: Float[AnyArray, "b m"], points: int, spread: np.ndarray) -> Float[Array, "b e"]:
    """Returns data of several independent points by their location and scale; one point is as it is.

        y  ->  mean, ln std, (y_1 - mean) / std, ..., (y_points - mean) / std

    Mean and standard deviation are those of the points of the row, number by number. Nothing is lost, and
    points that lie close together are told apart as well as points that lie far apart.

    Args:
        y: data, with their points one after the other.
        points: the number of points.
        spread: standard deviation [m / points] of all points; 1e-6 of it is the resolution of the result.
    """
    if points == 1:
        return jnp.asarray(y)
    each = jnp.asarray(y).reshape(len(y), points, -1)
    mean = each.mean(axis=1)
    std = jnp.sqrt(each.var(axis=1) + (1e-6 * spread[None]) ** 2)
    relative = (each - mean[:, None]) / std[:, None]
    return jnp.concatenate([mean, jnp.log(std), relative.reshape(len(y), -1)], axis=1)

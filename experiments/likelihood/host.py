"""The same log densities by a solver on the host: SciPy's RK45, which is how they are usually computed.

The host solves dx / d ln sigma = -sigma^2 s together with the divergence, in float64, and calls a compiled
function for the score and the product with one probe. A batch that is solved at once shares its steps: its
results depend on the other examples. Results of its own for each example need a solve for each.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from experiments.likelihood.measure import Problem
from jaxscore import keys, likelihood, noise
from jaxscore.keys import Stream
from jaxscore.launch import console
from jaxscore.launch.compiler import compiler_options
from jaxscore.samplers.prior import log_prior
from jaxscore.types import Array, right

REFERENCE = 1e-6
"""Tolerance of the log densities that all others are compared with."""


def compared(problem: Problem, data: np.ndarray, numbers: Array) -> list[dict[str, Any]]:
    """Returns seconds per example and RMS error in nats: of the library, and of the host's two ways.

    All have the same probe for each example, so that only the errors of the solvers differ.

    Args:
        problem: the run.
        data: examples in the units of the data.
        numbers: numbers of their classes, if the score has conditions.
    """
    config, params = problem.config, problem.run.params
    rows = noise.row_keys(keys.stream(config.seed, Stream.EVALUATE), len(data))
    x = problem.dequantised(noise.fold_in(rows, 0), jnp.asarray(data)).x[:: config.draws]
    given = {"sigma_min": config.sigma_min, "sigma_max": config.sigma_max, "moments": problem.moments}
    own = noise.fold_in(rows, 1)

    def estimate(params, own, x, numbers, tolerance):
        score = problem.score(params, numbers)
        both = {"rtol": tolerance, "atol": tolerance}
        return likelihood.log_density(score, own, x, probes=1, **given, **both).value

    def at(tolerance):
        program = jax.jit(partial(estimate, tolerance=tolerance), compiler_options=compiler_options())
        return lambda: np.asarray(program(params, own, x, numbers), float)

    v, solve = noise.rademacher(noise.fold_in(own, 0), x.shape), solver(problem)
    one = lambda i: solve(x[i : i + 1], v[i : i + 1], numbers[i : i + 1])
    apart = lambda: np.concatenate([one(i) for i in range(len(x))])
    ways = {
        "jaxscore, a batch": at(config.tolerance),
        "SciPy, one by one": apart,
        "SciPy, a batch with common steps": lambda: solve(x, v, numbers),
    }
    truth, found = at(REFERENCE)(), []
    for title, way in ways.items():
        way()
        begin = time.perf_counter()
        away = way() - truth
        seconds = (time.perf_counter() - begin) / len(x)
        found.append({"way": title, "seconds": seconds, "rms": float(np.sqrt(np.mean(away**2)))})
    return found


def solver(problem: Problem) -> Callable[[Array, Array, Array], np.ndarray]:
    """Returns solve(x, v, numbers) -> the log densities of all rows by one solve, with probes v."""
    config, params = problem.config, problem.run.params
    span = np.log(config.sigma_min), np.log(config.sigma_max)

    @partial(jax.jit, compiler_options=compiler_options())
    def slope(params, x, v, numbers, log_sigma):
        sigma = jnp.full(len(x), jnp.exp(log_sigma))
        field = lambda x: -right(sigma**2, x) * problem.score(params, numbers)(x, sigma)
        moves, product = jax.jvp(field, (x,), (v,))
        return moves, jnp.sum((v * product).reshape(len(x), -1), axis=1)

    def solve(x: Array, v: Array, numbers: Array) -> np.ndarray:
        n = len(x)

        def field(log_sigma: float, state: np.ndarray) -> np.ndarray:
            point = jnp.asarray(state[:-n].reshape(x.shape), jnp.float32)
            parts = slope(params, point, v, numbers, jnp.float32(log_sigma))
            return np.concatenate([np.asarray(part, float).ravel() for part in parts])

        start = np.concatenate([np.asarray(x, float).ravel(), np.zeros(n)])
        end = solve_ivp(field, span, start, rtol=config.tolerance, atol=config.tolerance).y[:, -1]
        point = jnp.asarray(end[:-n].reshape(x.shape), jnp.float32)
        return np.asarray(log_prior(point, config.sigma_max, problem.moments), float) + end[-n:]

    return solve


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the ways with their seconds and errors as text."""
    lines = [("solver", "s / example", "times jaxscore", "RMS error, nats")]
    for row in rows:
        times = f"{row['seconds'] / rows[0]['seconds']:.2f}"
        lines.append((row["way"], f"{row['seconds']:.4f}", times, f"{row['rms']:.4f}"))
    return console.table(lines)

"""The training steps that `cost` compares: the same network and batch, and one objective each."""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.common import timing
from jaxscore import noise, objectives
from jaxscore.networks import MLP
from jaxscore.score import preconditioned

DENOISING, FINITE_DIFFERENCE, SLICED = "denoising", "finite difference", "sliced"
IMPLICIT, AT_ONCE = "implicit", "implicit, all at once"

DEPTH = 2
"""Residual blocks of the network."""

CHUNK = 64
"""Basis vectors in memory at once; the default of `objectives.implicit`."""

SLOW = 6.0
"""A step that has taken this many seconds in total is not run again."""


class Step(NamedTuple):
    """A compiled training step. Each call of `run` makes one step with the state of the last call."""

    run: Callable[[], jax.Array]
    compile_seconds: float
    temporary_bytes: int
    """Memory besides the state, the batch and the results."""


def losses(config, size: int) -> dict[str, objectives.Objective]:
    """The objectives for D = size. AT_ONCE exists only for D > CHUNK; otherwise it would equal IMPLICIT."""
    found = {
        DENOISING: objectives.denoising,
        FINITE_DIFFERENCE: partial(objectives.finite_difference, probes=config.probes),
        SLICED: partial(objectives.sliced_variance_reduced, probes=config.probes),
        IMPLICIT: partial(objectives.implicit, chunk=CHUNK),
    }
    return found | ({AT_ONCE: partial(objectives.implicit, chunk=size)} if size > CHUNK else {})


def compiled(config, size: int) -> dict[str, Step]:
    """Compiled training step of each objective: gradient of the mean loss and Adam, with a donated state."""
    network, tx = MLP(width=config.width, depth=DEPTH), optax.adam(1e-4)
    score, sigma = preconditioned(network.apply, sigma_data=1.0), jnp.full(config.batch, 0.5)
    x = noise.normal(jax.random.key(0), (config.batch, size))
    params = jax.jit(network.init)(jax.random.key(1), x, sigma)
    initial, key = (params, tx.init(params), jnp.zeros((), jnp.int32)), jax.random.key(2)

    def prepare(objective: objectives.Objective) -> Step:
        @partial(jax.jit, donate_argnums=0)
        def step(state, key, x):
            params, opt, number = state
            fresh = jax.random.fold_in(key, number)
            loss = lambda params: objective(partial(score, params), fresh, x, sigma).mean()
            value, slope = jax.value_and_grad(loss)(params)
            updates, opt = tx.update(slope, opt)
            return (optax.apply_updates(params, updates), opt, number + 1), value

        begin = time.perf_counter()
        program = step.lower(initial, key, x).compile()
        seconds = time.perf_counter() - begin
        latest = [jax.tree.map(jnp.copy, initial)]  # a step donates its state, so each objective has a copy

        def run():
            latest[0], value = program(latest[0], key, x)
            return value

        return Step(run, seconds, program.memory_analysis().temp_size_in_bytes)

    return {name: prepare(objective) for name, objective in losses(config, size).items()}


def timings(jobs: dict[str, Callable[[], jax.Array]], repeats: int) -> dict[str, list[float]]:
    """Seconds of up to `repeats` runs of each job, taken in turn; a job stops after SLOW seconds in total.

    The first run of a job is not counted, because the job is not warm yet. It is counted if it took at least
    a second, because the warm-up is then negligible.
    """
    seconds = timing.all_runs(jobs, repeats + 1, limit=SLOW)
    return {name: values if values[0] >= 1 else values[1:] for name, values in seconds.items()}


def work(config, size: int) -> float:
    """Cost of the exact trace up to a constant factor: D times the number of parameters of the network."""
    network = MLP(width=config.width, depth=DEPTH)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, size)), jnp.zeros(1))
    return size * sum(leaf.size for leaf in jax.tree.leaves(shapes))


def left_out(config, size: int, step: Step, before: tuple[int, float] | None) -> str:
    """Reason for not running a step, or an empty string.

    Args:
        config: the limits of memory and time, and the network.
        size: dimension D of the data.
        step: the compiled step.
        before: a smaller D and the seconds of its step, if there is one.
    """
    gigabytes = step.temporary_bytes / 1e9
    if gigabytes > config.memory_limit_gb:
        return f"needs {gigabytes:.3g} GB, more than --memory-limit-gb {config.memory_limit_gb:g}"
    if before is not None:
        seconds = before[1] * work(config, size) / work(config, before[0])
        if seconds > config.seconds_limit:
            return f"would take {seconds:.0f} s a step, more than --seconds-limit {config.seconds_limit:g}"
    return ""

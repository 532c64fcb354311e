"""The likelihood of a set of examples, batch by batch; a killed run goes on where it was."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.likelihood.config import Config
from jaxscore import keys, likelihood, noise, samplers, sharding
from jaxscore.keys import Stream
from jaxscore.launch import Refusal, Run, console, workdir
from jaxscore.launch.compiler import compiler_options
from jaxscore.likelihood import Dequantised
from jaxscore.types import Array, Key, ScoreFn

GREY_VALUES = (2, 17, 256)
"""Numbers of grey values that images may have: those of digits are 17."""


class Problem(NamedTuple):
    """A run, and what is known of its data."""

    config: Config
    run: Run
    moments: samplers.Moments
    """Mean and covariance of the training examples, in the units of the score."""
    values: int | None
    """Number of grey values; None for data that have a density."""
    classes: np.ndarray
    """Labels of the classes, in order, if the score is conditioned on them; otherwise none."""

    def dequantised(self, key: Key, data: Array) -> Dequantised:
        """Returns the data in the units of the score; what has no grey values is only encoded."""
        encode = self.run.experiment.units.encode
        if self.values is not None:
            given = {"values": self.values, "draws": self.config.draws, "encode": encode}
            return likelihood.dequantise(key, data, **given)
        x, slope = jax.jvp(encode, (data,), (jnp.ones_like(data),))
        volume = jnp.sum(jnp.log(jnp.abs(slope)), axis=tuple(range(1, x.ndim)))
        return Dequantised(x, volume, 1)

    def score(self, params: Any, numbers: Array) -> ScoreFn:
        """Returns the score of examples whose classes have these numbers."""
        experiment = self.run.experiment
        condition = {"condition": experiment.conditions(numbers)} if len(self.classes) else {}
        return partial(experiment.score, params, **condition)

    def numbers(self, labels: np.ndarray) -> Array:
        """Returns the numbers of the classes with these labels."""
        return jnp.asarray(np.searchsorted(self.classes, labels))

    def estimate(self, params: Any, rows: Key, data: Array, numbers: Array) -> dict[str, Array]:
        """Returns the log density or probability of each example in nats, and a lower bound."""
        config = self.config
        found = self.dequantised(noise.fold_in(rows, 0), data)
        score = self.score(params, jnp.repeat(numbers, found.draws))
        given = {"sigma_min": config.sigma_min, "sigma_max": config.sigma_max, "moments": self.moments}
        both = {"rtol": config.tolerance, "atol": config.tolerance}
        own = lambda number: _of_draws(noise.fold_in(rows, number), found.draws)
        density = likelihood.log_density(score, own(1), found.x, probes=config.probes, **given, **both)
        below = likelihood.bound(score, own(2), found.x, draws=config.bound_draws, **given)
        bits, nats = likelihood.bits_per_dimension(density, found), data[0].size * np.log(2)
        by_draw = lambda rows: rows.reshape(-1, found.draws)
        return {
            "log_p": -bits.value * nats,
            "error": bits.standard_error * nats,
            "bound": by_draw(below.value + found.log_volume).mean(axis=1),
            "bound_error": jnp.linalg.norm(by_draw(below.standard_error), axis=1) / found.draws,
            "evaluations": by_draw(density.evaluations).sum(axis=1),
        }


def _of_draws(rows: Key, draws: int) -> Key:
    """Returns a key for each draw of each row."""
    several = jax.vmap(jax.random.fold_in, (None, 0))
    return jax.vmap(lambda key: several(key, jnp.arange(draws)))(rows).reshape(-1)


def grey_values(data: np.ndarray) -> int | None:
    """Returns the number of grey values of images in 0..1; None if they are no multiples of 1 / 255."""
    if data.ndim != 4 or data.min() < 0 or data.max() > 1:
        return None
    multiples = lambda n: np.abs(data * (n - 1) - np.round(data * (n - 1))).max() < 1e-3
    return next((n for n in GREY_VALUES if multiples(n)), None)


def rows_of(
    problem: Problem, title: str, data: np.ndarray, labels: np.ndarray, path: Path, stamp: str
) -> tuple[dict[str, np.ndarray], int]:
    """Returns the results of all examples, in order, and how many of them were not in the file `path`.

    Args:
        problem: the run, and what is known of its data.
        title: of the set, for the progress.
        data: examples in the units of the data.
        labels: their classes.
        path: a .npz file, which is written after every batch.
        stamp: what the results depend on; the results in the file count only if theirs is the same.
    """
    done, of = workdir.read_samples(path)
    done = done if of == stamp else {}
    console.say(f"{title}: {len(data) - len(done.get('log_p', ())):,} examples to solve for")
    start = len(done["log_p"]) if done else 0
    step = sharding.mesh().size * -(-problem.config.batch // sharding.mesh().size)
    draw = _program(problem)
    for begin in console.in_turn(range(start, len(data), step), f"{title}, batches"):
        here = slice(begin, begin + step)
        found = draw(begin, _padded(data[here], step), _padded(labels[here], step))
        found = {name: np.asarray(rows)[: len(data[here])] for name, rows in found.items()}
        done = {name: np.concatenate([done[name], rows]) if done else rows for name, rows in found.items()}
        workdir.write_samples(path, done, stamp)
    return done, len(data) - start


def _program(problem: Problem) -> Callable[[int, np.ndarray, np.ndarray], dict[str, Array]]:
    """Returns draw(number of the first example, data, labels), computed by all devices."""
    split = sharding.batched(sharding.mesh())
    program = jax.jit(problem.estimate, compiler_options=compiler_options())
    key = keys.stream(problem.config.seed, Stream.EVALUATE)

    def draw(begin: int, data: np.ndarray, labels: np.ndarray) -> dict[str, Array]:
        rows = noise.row_keys(key, len(data), start=begin)
        given = jax.device_put((rows, jnp.asarray(data), problem.numbers(labels)), split)
        return program(problem.run.params, *given)

    return draw


def _padded(rows: np.ndarray, n: int) -> np.ndarray:
    """Returns n rows; the last one is repeated, and carries no weight."""
    return np.concatenate([rows, np.repeat(rows[-1:], n - len(rows), axis=0)])


def classes_of(run: Run, folder: Path) -> np.ndarray:
    """Returns the labels of the classes that the score is conditioned on; none for an unconditional score.

    Raises Refusal for a score that is conditioned on something else.
    """
    experiment = run.experiment
    if experiment.conditions is None:
        return np.zeros(0, np.int32)
    first = experiment.conditions(jnp.arange(2))
    if getattr(first, "ndim", 0) != 1 or not jnp.issubdtype(first.dtype, jnp.integer):
        raise Refusal(f"--run {folder}: its score is conditioned on vectors; only classes are known here")
    return np.unique(np.asarray(experiment.data.labels))

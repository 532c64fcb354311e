"""The methods, each as draw(keys, y) -> x[b, h, w, c] in the units of the score."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.langevin import Langevin
from experiments.restore.config import Config, half
from jaxscore import inverse, noise, samplers
from jaxscore.inverse import operators
from jaxscore.inverse.operators import Operator
from jaxscore.launch import Run
from jaxscore.samplers import Moments, Sampler
from jaxscore.score import denoise
from jaxscore.types import Array, Key, ScoreFn

FACTORED = 2048
"""Measurements of at most this many numbers are solved exactly instead of by conjugate gradients."""


class Problem(NamedTuple):
    """What is measured of the images, and what is known of them."""

    config: Config
    run: Run
    no_class: int | None
    """The class number that means "no class"; see `unconditional`."""
    operator: Operator
    noise: float
    """Standard deviation of the noise, in the units of the score."""
    moments: Moments
    """Moments of the training images, in the units of the score."""
    sigma_data: float
    """Standard deviation of the images, by coordinate."""
    sigmas: Array
    langevin: Langevin

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of an image."""
        return self.moments.mean.shape

    def score(self, params: Any, rows: int) -> ScoreFn:
        """Returns the score of that many rows, without a class."""
        given = {} if self.no_class is None else {"condition": jnp.full(rows, self.no_class)}
        return partial(self.run.experiment.score, params, **given)


def unconditional(run: Run) -> int | None:
    """Returns the class number that means "no class", or None if the score has no condition.

    Raises ValueError if the score needs a condition that is unknown for a measurement.
    """
    experiment = run.experiment
    if experiment.conditions is None:
        return None
    numbers = experiment.conditions(jnp.arange(10_000))
    whole = isinstance(numbers, jax.Array) and jnp.issubdtype(numbers.dtype, jnp.integer)
    if not whole or not getattr(experiment.config, "p_uncond", 0):
        raise ValueError(
            "its score needs a condition, which no measurement gives; name a run that was "
            "trained without conditions, or with --p-uncond 0.1"
        )
    return int(numbers.max()) + 1


def prepared(operator: Operator, event: tuple[int, ...]) -> Operator:
    """Returns the operator, with an exact solve if it is small."""
    if operator.adjoint is None or operator.solve is not None:
        return operator
    numbers = np.prod(jax.eval_shape(operator.apply, jax.ShapeDtypeStruct((1, *event), jnp.float32)).shape)
    return operators.factored(operator, event) if numbers <= FACTORED else operator


def _generated(problem: Problem, make: Callable[[ScoreFn, Array], tuple[ScoreFn, Sampler]]) -> Callable:
    """Returns the method that runs make(score, y) -> (score, sampler) along the levels."""

    def draw(params: Any, keys: Key, y: Array) -> Array:
        score, sampler = make(problem.score(params, len(keys)), y)
        given = {"moments": problem.moments}
        return samplers.generate(keys, problem.event, problem.sigmas, score, sampler, **given)

    return draw


def _replacement(problem: Problem) -> Callable:
    """Annealed Langevin dynamics with the known half replaced before each step (Song & Ermon 2019)."""
    dynamics, mask = problem.langevin, jnp.asarray(half(problem.config.known, problem.event))
    step, sigmas = dataclasses.replace(dynamics, steps=1).sampler(), dynamics.sigma_grid()

    def draw(params: Any, keys: Key, y: Array) -> Array:
        known, score = problem.operator.adjoint(y), problem.score(params, len(keys))
        completing = samplers.repeat(inverse.replacement(step, known, mask), dynamics.steps)
        x = samplers.generate(keys, problem.event, sigmas, score, completing, moments=problem.moments)
        x = denoise(score, x, jnp.full(len(x), dynamics.sigma_min))
        return inverse.paste(x, known, mask)

    return draw


def _gaussian(problem: Problem) -> Callable:
    """Draws from the posterior for Gaussian images with the mean and the covariance of the data."""
    moments, operator = problem.moments, problem.operator
    a = jnp.asarray(operators.dense(operator, problem.event), jnp.float32)
    if moments.axes is None:
        spread = moments.variances * a
    else:
        spread = (a @ moments.axes * moments.variances[None]) @ moments.axes.T
    covariance = spread @ a.T + problem.noise**2 * jnp.eye(len(a))
    gain = jnp.asarray(np.linalg.pinv(np.asarray(covariance, np.float64), rcond=1e-6, hermitian=True))
    gain = (spread.T @ gain.astype(jnp.float32)).T

    def draw(params: Any, keys: Key, y: Array) -> Array:
        x = samplers.prior(noise.fold_in(keys, 0), (len(keys), *problem.event), 0.0, moments)
        seen = operator.apply(x)
        seen = seen + problem.noise * noise.normal(noise.fold_in(keys, 1), seen.shape)
        return x + ((y - seen).reshape(len(y), -1) @ gain).reshape(x.shape)

    return draw


def _particles(problem: Problem) -> Callable:
    """Twisted particles: those of an image belong together."""
    count = problem.config.samples

    def draw(params: Any, keys: Key, y: Array) -> Array:
        score = problem.score(params, count)
        given = {"noise": problem.noise, "sigmas": problem.sigmas, "event": problem.event}
        given |= {"sigma_data": problem.sigma_data, "moments": problem.moments, "particles": count}
        one = lambda key, y: inverse.twisted(key, score, problem.operator, y, **given).x
        found = jax.vmap(one)(keys[::count], y[::count])
        return found.reshape(-1, *problem.event)

    return draw


def methods(problem: Problem) -> dict[str, Callable[[Any, Key, Array], Array]]:
    """Returns draw(params, keys[b], y[b, ...]) -> x[b, h, w, c] of every method that was chosen.

    Rows of an image are next to each other, `samples` of them.
    """
    a, std, config = problem.operator, problem.noise, problem.config
    ancestral, solver = samplers.ancestral(), samplers.dpm_solver_pp(2, eta=1.0)
    pigdm = partial(inverse.pigdm, noise=std, sigma_data=problem.sigma_data)
    decoupled = partial(inverse.decoupled, noise=std, sigma_data=problem.sigma_data)
    diffpir = partial(inverse.diffpir, noise=std, weight=config.diffpir_weight)
    make = {
        "pseudo_inverse": lambda: lambda params, keys, y: operators.pseudo_inverse(a, y),
        "gaussian": lambda: _gaussian(problem),
        "pigdm": lambda: _generated(problem, lambda score, y: (pigdm(score, a, y), solver)),
        "diffpir": lambda: _generated(problem, lambda score, y: (diffpir(score, a, y), solver)),
        "ddnm": lambda: _generated(problem, lambda score, y: (inverse.ddnm(score, a, y), solver)),
        "decoupled": lambda: _generated(problem, lambda score, y: (score, decoupled(a, y))),
        "dps": lambda: _generated(
            problem, lambda score, y: (score, inverse.dps(ancestral, a, y, scale=config.dps_scale))
        ),
        "repaint": lambda: _generated(
            problem, lambda score, y: (score, inverse.resampled(inverse.projection(ancestral, a, y), 5))
        ),
        "replacement": lambda: _replacement(problem),
        "particles": lambda: _particles(problem),
    }
    return {name: make[name]() for name in config.chosen}

"""The methods that are compared, each as draw(key, problem, n) -> x[n, d]."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.posterior.problems import Problem
from jaxscore import guidance, inverse, noise, samplers
from jaxscore.samplers import Sampler
from jaxscore.score import denoise
from jaxscore.types import Array, Key, ScoreFn

SCALE = 0.3
"""Length of the step of DPS; it was not tuned."""

FEWEST_RUNS = 16
"""Independent runs of particles, at least, so that their mean is known."""


class Method(NamedTuple):
    """How draws are made, and the evaluations of the score that a draw costs."""

    draw: Callable[[Key, Problem, int], Array]
    evaluations: Callable[[int, int], float]
    """evaluations(levels, n) for each of n draws."""


def by_score(make: Callable[[Problem], ScoreFn], sampler: Sampler, cost: int = 1) -> Method:
    """Returns the method that runs the sampler with make(problem), a score that costs `cost` evaluations."""
    draw = lambda key, problem, n: _generate(key, problem, n, make(problem), sampler)
    return Method(draw, lambda levels, n: cost * samplers.evaluations(sampler, levels))


def by_sampler(make: Callable[[Problem], Sampler], evaluations: Callable[[int], float]) -> Method:
    """Returns the method that runs the sampler make(problem) with the score of the prior."""
    draw = lambda key, problem, n: _generate(key, problem, n, problem.score(), make(problem))
    return Method(draw, lambda levels, n: evaluations(levels))


def _generate(key: Key, problem: Problem, n: int, score: ScoreFn, sampler: Sampler) -> Array:
    shape = (n, *problem.event)
    return samplers.generate(key, shape, problem.sigmas, score, sampler, moments=problem.moments)


def _given(problem: Problem) -> tuple:
    return problem.score(), problem.operator(), problem.y


def _likelihood(problem: Problem) -> ScoreFn:
    """Returns the score of DPS before its normalisation: the likelihood of the denoised mean."""
    score, operator, y = _given(problem)

    def log_likelihood(x: Array, sigma: Array) -> Array:
        residual = y[None] - operator.apply(denoise(score, x, sigma))
        return -jnp.sum(residual**2, axis=1) / (2 * problem.noise**2)

    return guidance.by(score, log_likelihood)


def _pigdm(problem: Problem) -> ScoreFn:
    return inverse.pigdm(*_given(problem), noise=problem.noise, sigma_data=problem.sigma_data)


def _pigdm_of_a_mode(problem: Problem) -> ScoreFn:
    return inverse.pigdm(*_given(problem), noise=problem.noise, sigma_data=1.0)


def _particles(number: int) -> Method:
    """Returns the twisted sampler with a number of particles, in independent runs that share the draws."""
    runs = lambda n: max(FEWEST_RUNS, -(-n // number))

    def draw(key: Key, problem: Problem, n: int) -> Array:
        given = {"noise": problem.noise, "sigmas": problem.sigmas, "moments": problem.moments}
        given |= {"sigma_data": problem.sigma_data}
        one = lambda key: inverse.twisted(key, *_given(problem), **given, particles=number).x
        found = jax.vmap(one)(noise.row_keys(key, runs(n)))
        # The particles of a run are in the order of their ancestors: an even choice keeps their weights.
        each = -(-n // runs(n))
        return found[:, jnp.arange(each) * number // each].reshape(-1, *problem.event)[:n]

    return Method(draw, lambda levels, n: levels * number * runs(n) / n)


METHODS = {
    "exact score, Heun": by_score(Problem.exact, samplers.heun()),
    "exact score, ancestral": by_score(Problem.exact, samplers.ancestral()),
    "no measurement": by_score(Problem.score, samplers.ancestral()),
    "PiGDM": by_score(_pigdm, samplers.ancestral()),
    "PiGDM, Heun": by_score(_pigdm, samplers.heun()),
    "PiGDM, sigma_data 1": by_score(_pigdm_of_a_mode, samplers.ancestral()),
    "DPS": by_sampler(
        lambda problem: inverse.dps(samplers.ancestral(), *_given(problem)[1:], scale=SCALE), lambda n: 2 * n
    ),
    "DPS, likelihood": by_score(_likelihood, samplers.ancestral(), cost=2),
    "DiffPIR": by_score(
        lambda problem: inverse.diffpir(*_given(problem), noise=problem.noise), samplers.ancestral()
    ),
    "DiffPIR, weight 7": by_score(
        lambda problem: inverse.diffpir(*_given(problem), noise=problem.noise, weight=7.0),
        samplers.ancestral(),
    ),
    "DDNM": by_score(lambda problem: inverse.ddnm(*_given(problem)), samplers.ancestral()),
    "decoupled annealing": by_sampler(
        lambda problem: inverse.decoupled(
            *_given(problem)[1:], noise=problem.noise, sigma_data=problem.sigma_data
        ),
        lambda n: n,
    ),
    "projection": by_sampler(
        lambda problem: inverse.projection(samplers.ancestral(), *_given(problem)[1:]), lambda n: n
    ),
    "projection, 5 times": by_sampler(
        lambda problem: inverse.resampled(inverse.projection(samplers.ancestral(), *_given(problem)[1:]), 5),
        lambda n: 5 * n - 4,
    ),
} | {f"particles, {number}": _particles(number) for number in (4, 16, 64, 256)}
"""By the names in the table."""

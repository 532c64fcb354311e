"""How many evaluations will do: every sampler on one trained run, from 4 to 64 evaluations.

    make digits
    python -m experiments.solvers
    python -m experiments.solvers --run runs/edm-fashion --workdir runs/solvers-fashion --samples 500
    python -m experiments.distill && python -m experiments.solvers --students runs/distill

All samplers start from the same noise. Each is compared with the data, by the Frechet distance in the
features of a classifier, and with the end of the probability flow from the same noise: by the root mean
square difference, and by how often the classifier sees the same class. The converged flow is Heun's method
with 256 levels. The last line names the sampler with the fewest evaluations that is nearly as good.
"""

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import distill
from experiments.common.features import Judge, epochs_for, judges
from experiments.common.runs import opened
from experiments.solvers import report
from experiments.solvers.methods import METHODS, ON_FOUND_LEVELS
from jaxscore import keys, metrics, noise, samplers
from jaxscore.keys import Stream
from jaxscore.launch import Run, console, workdir
from jaxscore.launch.compiler import compiler_options
from jaxscore.launch.evaluate import examples
from jaxscore.launch.flags import Count, Positive, Seed, check, require
from jaxscore.samplers import Sampler
from jaxscore.types import Array, ScoreFn

CONVERGED = 256
"""Levels of Heun's method for the end of the probability flow."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Every sampler on one trained run, with as many evaluations as it is given."""

    run: Path = Path("runs/digits")
    """Folder of a trained run whose experiment says what its score is."""
    experiment: str | None = None
    """Module with the run's `build` and its configuration; experiments.NAME if it is not given."""
    workdir: Path = Path("runs/solvers")
    """Folder for solvers.json and solvers.png."""
    students: tuple[Path, ...] = ()
    """Folders of experiments.distill whose teacher is --run; one step and two of each are measured too."""
    evaluations: tuple[Count, ...] = (4, 6, 8, 10, 16, 32, 64)
    """Numbers of evaluations of the score."""
    tolerances: tuple[Positive, ...] = (1e-2, 1e-3, 1e-4)
    """Tolerances of the adaptive solver."""
    optimise: int = 10
    """Up to this number of evaluations, levels are also searched for; 0 for none."""
    samples: Count = 2000
    """Number of samples of each sampler."""
    sigma_min: Positive = 0.01
    """Smallest noise level, in the units of the score."""
    sigma_max: Positive = 40.0
    """Largest noise level."""
    seed: Seed = 0
    """Seed of the noise that all samplers start from."""

    def __post_init__(self):
        check(self)
        require(self.sigma_min < self.sigma_max, "sigma-min", self.sigma_min, "must be below --sigma-max")
        require(all(n > 1 for n in self.evaluations), "evaluations", self.evaluations, "must be at least 2")
        require(self.samples >= 10, "samples", self.samples, "must be at least 10, for a covariance")


class Problem(NamedTuple):
    """What all samplers are given, and what they are compared with."""

    run: Run
    start: Array
    """x[n, ...] at the largest level."""
    sigmas: Callable[[int], Array]
    """sigmas(n) -> the levels of n steps."""
    flow: np.ndarray
    """x at the end of the probability flow."""
    students: dict[str, Run]
    """The students by the names of their rows."""
    judge: Judge
    reference: np.ndarray
    """Features of the data."""

    def score(self, params: Any, n: int | None = None) -> ScoreFn:
        """Returns the score of the first n samples, or of all, with the conditions that the run gives."""
        experiment, rows = self.run.experiment, jnp.arange(len(self.start) if n is None else n)
        condition = {} if experiment.conditions is None else {"condition": experiment.conditions(rows)}
        return partial(experiment.score, params, **condition)

    def compiled(self, draw: Callable[[Array, ScoreFn], Any]) -> Callable[[Array], Any]:
        """Returns draw(x, score) as a function of the start that has been compiled already."""
        program = jax.jit(lambda params, x: draw(x, self.score(params))).lower(self.run.params, self.start)
        return partial(program.compile(compiler_options=compiler_options()), self.run.params)

    def drawn(self, sampler: Sampler, sigmas: Array) -> Callable[[Array], Array]:
        """Returns the function of the start that runs the sampler along the levels."""
        key = keys.stream(0, Stream.EVALUATE)
        return self.compiled(lambda x, score: samplers.sample(key, x, sigmas, score, sampler)[0])

    def judged(self, x: Array, *, follows: bool) -> dict[str, Any]:
        """Returns the metrics of samples x; those about the flow if the sampler follows it."""
        features, predict = self.judge
        decoded = lambda x: np.asarray(self.run.experiment.units.decode(x))
        images = decoded(x)
        found = metrics.half_samples(metrics.frechet, features(images), self.reference, resamples=40)
        row = {"frechet": found.value, "low": max(found.low, 0.0), "high": found.high}
        if follows:
            row["rms"] = float(np.sqrt(np.mean((np.asarray(x) - self.flow) ** 2)))
            if predict is not None:
                row["same_class"] = float(np.mean(predict(images) == predict(decoded(self.flow))))
        return row


def posed(config: Config) -> Problem:
    """Returns the problem. Raises Refusal if --run has no score, and what `students` raises."""
    run, others = opened(config.run, config.experiment), students(config)
    data = examples(run.experiment, 10_000)
    source = run.experiment.data
    labels = np.zeros(len(data), np.int32) if source is None else np.asarray(source.labels)
    fitted = data if source is None else source.examples
    found, _ = judges(fitted, labels, data, n=1, epochs=epochs_for(len(labels)))
    rows = noise.row_keys(keys.stream(config.seed, Stream.SAMPLE), config.samples)
    moments = samplers.moments(np.asarray(run.experiment.units.encode(data)))
    start = samplers.prior(rows, (config.samples, *data.shape[1:]), config.sigma_max, moments)
    schedule = noise.karras(config.sigma_min, config.sigma_max)
    sigmas = lambda n: noise.levels(schedule, n) if n > 1 else jnp.array([config.sigma_max, 0.0])
    problem = Problem(run, start, sigmas, np.zeros(0), others, found[0], found[0][0](data))
    flow = problem.drawn(samplers.heun(), sigmas(CONVERGED))(start)
    return problem._replace(flow=np.asarray(flow))


class Job(NamedTuple):
    """A sampler that is to be measured."""

    name: str
    budget: int | None
    """The number of evaluations that it may have at most; None if it chooses by itself."""
    evaluations: int
    make: Callable[[], Callable[[Array], Any]]
    """make() -> the function of the start."""
    follows: bool = True
    """Whether it follows the probability flow."""


def students(config: Config) -> dict[str, Run]:
    """Returns the runs in --students. Raises FlagError unless --run is the teacher of each."""
    found: dict[str, Run] = {}
    for folder in config.students:
        run = opened(folder, flag="students")
        own = run.experiment.config
        taught = isinstance(own, distill.Config) and own.run.resolve() == config.run.resolve()
        require(taught, "students", folder, f"is no student of {config.run} by experiments.distill")
        same = own.sigma_max == config.sigma_max
        require(same, "students", folder, f"starts at {own.sigma_max}; give it as the --sigma-max")
        name = f"distilled, {own.method}"
        require(name not in found, "students", folder, f"is a second one by {own.method}; give one of each")
        found[name] = run
    return found


def steps_of(problem: Problem) -> list[Job]:
    """Returns one step and two of each student. Those by consistency add noise between two steps."""
    found = []
    for name, run in problem.students.items():
        config, draw = run.experiment.config, problem._replace(run=run).drawn
        for sigmas in distill.grids(config).values():
            n, make = len(sigmas) - 1, partial(draw, distill.sampler(config), sigmas)
            found.append(Job(name, n, n, make, n == 1 or config.method == "reflow"))
    return found


def jobs(config: Config, problem: Problem) -> list[Job]:
    """Returns the students, and all samplers with each number of evaluations."""
    found = steps_of(problem)
    for n in sorted(set(config.evaluations)):
        for name, method in METHODS.items():
            steps = method.steps(n)
            if steps < method.make(steps).order:
                continue
            make = partial(problem.drawn, method.make(steps), problem.sigmas(steps))
            found.append(Job(name, n, 1 + (steps - 1) * method.cost, make, not method.noisy))
        for name, method in ON_FOUND_LEVELS.items() if n <= config.optimise else ():
            found.append(Job(f"{name}, found levels", n, n, partial(optimised, problem, method.make(n), n)))
    for tolerance in config.tolerances:
        solve = partial(
            samplers.adaptive,
            sigma_max=config.sigma_max,
            sigma_min=config.sigma_min,
            rtol=tolerance,
            atol=tolerance,
        )
        found.append(Job(f"adaptive {tolerance:g}", None, 0, partial(problem.compiled, solve)))
    return found


def optimised(problem: Problem, sampler: Sampler, n: int) -> Callable[[Array], Array]:
    """Returns the function of the start that runs the sampler along levels found on 100 of the samples."""
    few = min(100, len(problem.start))
    score = problem.score(problem.run.params, few)
    sigmas = samplers.optimised(problem.start[:few], problem.sigmas(n), score, sampler, steps=100)
    return problem.drawn(sampler, sigmas)


def measure(config: Config, problem: Problem) -> list[dict[str, Any]]:
    """Returns a row of metrics for each sampler and number of evaluations; times leave compilation out."""
    rows = []
    for job in console.runs(jobs(config, problem), lambda job: job.name):
        draw, evaluations = job.make(), job.evaluations
        begin = time.perf_counter()
        x = jax.block_until_ready(draw(problem.start))
        seconds = time.perf_counter() - begin
        if isinstance(x, samplers.Solution):
            x, evaluations = x.x, float(x.evaluations.mean())
        row = {"sampler": job.name, "budget": job.budget, "evaluations": evaluations, "seconds": seconds}
        rows.append(row | problem.judged(x, follows=job.follows))
    return rows


def run(config: Config) -> dict[str, Any]:
    """Writes solvers.json and the picture, and prints the table; returns the results."""
    problem = posed(config)
    with workdir.owned(config.workdir, workdir.describe("solvers", config)):
        rows = measure(config, problem)
        floor = problem.judged(problem.flow, follows=False)
        found = {"samples": config.samples, "converged": floor, "rows": rows}
        workdir.write_json(config.workdir / "solvers.json", found)
        report.picture(rows, floor, config.workdir / "solvers.png")
    console.say(report.tables(rows, floor))
    console.say(f"table: {config.workdir / 'solvers.json'}\npicture: {config.workdir / 'solvers.png'}")
    return found

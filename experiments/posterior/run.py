"""How wrong each method of jaxscore.inverse is, where the exact posterior is known.

    python -m experiments.posterior
    python -m experiments.posterior --dimensions 8 --measurements 1 --problems 4

The first problem is the smallest: x ~ N(0, 1) and y = x + 0.3 z = 1, so x given y is N(0.917, 0.287^2). The
benchmark of Cardoso et al. 2024 follows: a mixture of 25 modes, random measurements, and the sliced
Wasserstein distance between the draws of a method and exact draws. All methods have the exact score of the
prior, so the errors are those of the methods alone. Finished kinds of problems are saved, and a killed run
goes on where it was.
"""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.posterior import problems, report
from experiments.posterior.methods import METHODS
from experiments.posterior.problems import Problem
from jaxscore import keys, metrics, mixtures, noise
from jaxscore.keys import Stream
from jaxscore.launch import console, workdir
from jaxscore.launch.compiler import compiler_options
from jaxscore.launch.flags import Count, Levels, Seed, check, require

ONE_NUMBER_LEVELS, ONE_NUMBER_DRAWS = 200, 10_000
"""Levels and draws for the smallest problem, which is cheap."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The methods of jaxscore.inverse against exact posteriors of mixtures."""

    workdir: Path = Path("runs/posterior")
    """Folder for posterior.json and the pictures."""
    dimensions: tuple[Count, ...] = (8, 80, 800)
    """Dimensions of x; even numbers."""
    measurements: tuple[Count, ...] = (1, 2, 4)
    """Numbers that are measured."""
    problems: Levels = 20
    """Random problems of each kind."""
    draws: Count = 512
    """Draws of each method for each problem."""
    levels: Levels = 50
    """Noise levels."""
    methods: tuple[str, ...] = ()
    """Names of the methods; all by default."""
    seed: Seed = 0
    """Seed of the problems and of the draws."""

    def __post_init__(self):
        check(self)
        for name in ("dimensions", "measurements"):
            require(getattr(self, name), name, "", "needs at least one number")
        for d in self.dimensions:
            require(d % 2 == 0, "dimensions", d, "must be even")
            most = max(self.measurements)
            require(most <= d, "measurements", most, f"must be at most --dimensions {d}")
        for name in self.methods:
            require(name in METHODS, "methods", repr(name), f"must be among {', '.join(map(repr, METHODS))}")
        require(self.draws >= 16, "draws", self.draws, "must be at least 16, one for each run of particles")

    @property
    def chosen(self) -> tuple[str, ...]:
        """The methods in the order of the table."""
        return tuple(name for name in METHODS if not self.methods or name in self.methods)


def run(config: Config) -> dict[str, Any]:
    """Writes posterior.json and the pictures, and prints the tables; returns the figures."""
    stamp = json.dumps(workdir.describe("posterior", config), sort_keys=True)
    path = config.workdir / "posterior.json"
    with workdir.owned(config.workdir, workdir.describe("posterior", config)):
        before = workdir.read_json(path)
        same = isinstance(before, dict) and before.get("stamp") == stamp
        found = before if same else {"stamp": stamp, "one_number": one_number(config), "benchmark": []}
        console.say(f"{report.one_number(found['one_number'])}\n")
        done = {(cell["dimensions"], cell["measurements"]) for cell in found["benchmark"]}
        cells = [(d, m) for d in config.dimensions for m in config.measurements]
        for d, m in console.runs(
            [cell for cell in cells if cell not in done], lambda cell: f"{cell[0]}, {cell[1]}"
        ):
            found["benchmark"].append(benchmark(config, d, m))
            workdir.write_json(path, found)
        workdir.write_json(path, found)
        report.picture(found["benchmark"], config.workdir / "posterior.png")
        samples(config, config.workdir / "modes.png")
    console.say(report.tables(found["benchmark"]))
    console.say(f"pictures: {config.workdir / 'posterior.png'}, {config.workdir / 'modes.png'}")
    return found


def drawing(name: str, problem: Problem, n: int) -> Any:
    """Returns the compiled draw(key, problem) of a method; the problems of a kind share it."""
    program = jax.jit(lambda key, problem: METHODS[name].draw(key, problem, n))
    return program.lower(jax.random.key(0), problem).compile(compiler_options=compiler_options())


def key_of(config: Config, *numbers: int) -> jax.Array:
    """Returns the key of a problem and a purpose."""
    key = keys.stream(config.seed, Stream.SAMPLE)
    for number in numbers:
        key = noise.fold_in(key, number)
    return key


def place_of(method: str) -> int:
    """Returns the place of the method among all. Draws that depend on it do not depend on --methods."""
    return list(METHODS).index(method)


def one_number(config: Config) -> list[dict[str, Any]]:
    """Returns mean and standard deviation of every method's draws for the smallest problem."""
    problem, rows = problems.one_number(ONE_NUMBER_LEVELS), []
    mean, covariance = mixtures.moments(problem.posterior)
    rows.append({"method": "truth", "mean": float(mean[0]), "std": float(covariance[0, 0] ** 0.5)})
    for name in console.in_turn(config.chosen, "one number"):
        key = key_of(config, 0, place_of(name))
        x = np.asarray(drawing(name, problem, ONE_NUMBER_DRAWS)(key, problem), float)
        rows.append({"method": name, "mean": x.mean(), "std": x.std()})
    return rows


def benchmark(config: Config, dimensions: int, measurements: int) -> dict[str, Any]:
    """Returns the distances of every method to exact draws, for each problem of a kind."""
    posed = [
        problems.mixture(dimensions, measurements, config.seed + number, config.levels)
        for number in range(config.problems)
    ]
    exact = lambda number, which: np.asarray(
        mixtures.draw(key_of(config, 1, number, which), posed[number].posterior, config.draws), float
    )
    references = [exact(number, 0) for number in range(config.problems)]
    distance = lambda x, number: metrics.sliced_wasserstein(x, references[number])
    floor = [distance(exact(number, 1), number) for number in range(config.problems)]
    rows = [{"method": "exact draws", "distances": floor, "evaluations": 0.0, "seconds": 0.0}]
    for name in config.chosen:
        draw, distances, seconds = drawing(name, posed[0], config.draws), [], 0.0
        for number, problem in enumerate(posed):
            key = key_of(config, 2, number, place_of(name))
            begin = time.perf_counter()
            x = np.asarray(jax.block_until_ready(draw(key, problem)), float)
            seconds += time.perf_counter() - begin
            distances.append(distance(x, number) if np.isfinite(x).all() else None)
        evaluations = METHODS[name].evaluations(config.levels, config.draws)
        row = {"method": name, "distances": distances, "evaluations": evaluations}
        rows.append(row | {"seconds": seconds / config.problems})
    return {"dimensions": dimensions, "measurements": measurements, "rows": rows}


def samples(config: Config, path: Path) -> None:
    """Draws the first two coordinates of exact draws and of the methods, for one problem in 8 dimensions."""
    problem = problems.mixture(8, 1, config.seed, config.levels)
    shown = {"exact draws": mixtures.draw(key_of(config, 3), problem.posterior, config.draws)}
    for name in config.chosen:
        shown[name] = drawing(name, problem, config.draws)(key_of(config, 4, place_of(name)), problem)
    report.modes({name: np.asarray(x) for name, x in shown.items()}, np.asarray(problem.prior.means), path)

"""Likelihood of the test set of a trained run, and the estimates on mixtures whose density is known.

    python -m experiments.likelihood
    python -m experiments.likelihood --run runs/digits

Without --run it compares the estimates of the library with the density of mixtures. With --run it evaluates
the examples of a run that were not trained on: the log density along the probability flow, the variational
bound, bits per dimension for images, and the same for examples of another kind. Results are saved after every
batch, and a killed run goes on where it was.
"""

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.runs import opened, unseen
from experiments.likelihood import host, measure, mixtures, report
from experiments.likelihood.config import Config
from experiments.likelihood.measure import Problem
from jaxscore import data, likelihood, samplers
from jaxscore.launch import Refusal, Run, console, workdir
from jaxscore.launch.compiler import compiler_options
from jaxscore.launch.evaluate import examples
from jaxscore.launch.flags import require

PAIRS, STEPS = 6, 9
"""Pairs of images in the picture of latents, and images on each arc."""

Sets = dict[str, tuple[np.ndarray, np.ndarray]]
"""Examples in the units of the data and their labels, by the title of the set."""


def run(config: Config) -> dict[str, Any]:
    """Writes likelihood.json and the pictures, and prints the table; returns the results."""
    with_run = None if config.run is None else opened(config.run, config.experiment)
    description = workdir.describe("likelihood", config)
    if with_run is None:
        require(config.against is None, "against", config.against, "needs --run")
        with workdir.owned(config.workdir, description):
            found = {"mixtures": mixtures.rows()}
            workdir.write_json(config.workdir / "likelihood.json", found)
        console.say(mixtures.table(found["mixtures"]))
        return found
    before = workdir.read_json(config.workdir / "config.json")
    changed = workdir.changes(before, description) if isinstance(before, dict) else []
    what = f"holds results of other flags ({'; '.join(changed)}); name another folder"
    require(not changed, "workdir", config.workdir, what)
    sets = chosen(config, with_run)
    problem = posed(config, with_run, sets)
    stamp = json.dumps({**description, "step": with_run.step}, sort_keys=True)
    with workdir.owned(config.workdir, description):
        found = evaluated(problem, sets, stamp)
        workdir.write_json(config.workdir / "likelihood.json", found)
    console.say(f"\n{report.table(found['sets'])}\n")
    if "host" in found:
        console.say(f"{host.table(found['host'])}\n")
    for note in found["notes"]:
        console.say(note)
    for picture in sorted(config.workdir.glob("*.png")):
        console.say(f"picture: {picture}")
    return found


def chosen(config: Config, opened_run: Run) -> Sets:
    """Returns the examples of the run, and those of another kind: of --against, or turned upside down."""
    source, what = unseen(opened_run)
    few = slice(config.examples)
    x, labels = data.pixels.unit(np.asarray(source.examples[few])), np.asarray(source.labels)[few]
    found = {what: (x, labels)}
    if config.against is not None:
        other = data.load(config.against)
        remedy = f"its examples have shape {other.event}, and those of the run {x.shape[1:]}"
        require(other.event == x.shape[1:], "against", config.against, remedy)
        found[config.against] = data.pixels.unit(np.asarray(other.examples[: len(x)])), None
    elif x.ndim == 4:
        found["upside down"] = x[:, ::-1], labels
    return {title: (np.asarray(x, np.float32), labels) for title, (x, labels) in found.items()}


def posed(config: Config, opened_run: Run, sets: Sets) -> Problem:
    """Returns the problem. Raises Refusal for a conditional run that cannot be evaluated."""
    units, (x, _) = opened_run.experiment.units, next(iter(sets.values()))
    classes = measure.classes_of(opened_run, config.run)
    if len(classes) and config.against is not None:
        raise Refusal(f"--against {config.against}: the run is conditioned on classes, which it lacks")
    moments = samplers.moments(np.asarray(units.encode(examples(opened_run.experiment, 10_000))))
    return Problem(config, opened_run, moments, measure.grey_values(x), classes)


def evaluated(problem: Problem, sets: Sets, stamp: str) -> dict[str, Any]:
    """Returns the table's rows and the notes, and draws the pictures."""
    folder, (first, _) = problem.config.workdir, next(iter(sets.values()))
    size, rows, table = int(np.prod(first.shape[1:])), {}, []
    for number, (title, (x, labels)) in enumerate(sets.items()):
        begin, labels = time.perf_counter(), np.zeros(len(x), int) if labels is None else labels
        path = folder / f"rows-{number}.npz"
        rows[title], new = measure.rows_of(problem, title, x, labels, path, stamp)
        seconds = (time.perf_counter() - begin) / new if new else float("nan")
        table.append(report.summary(title, rows[title], size, problem.values is not None, seconds))
    values = {title: each["log_p"] for title, each in rows.items()}
    unit, scale = "log density, nats", 1.0
    if problem.values is not None:
        unit, scale = "bits per dimension", -1 / (size * np.log(2))
    report.histogram({title: scale * each for title, each in values.items()}, unit, folder / "histogram.png")
    found = {"sets": table, "grey_values": problem.values, "notes": notes(problem, table, values)}
    few = slice(problem.config.host)
    if problem.config.host:
        found["host"] = host.compared(problem, first[few], problem.numbers(next(iter(sets.values()))[1][few]))
    if first.ndim == 4:
        found["round_trip_rms"] = interpolated(problem, first, sets, folder / "interpolation.png")
    return found


def notes(problem: Problem, table: list[dict[str, Any]], values: dict[str, np.ndarray]) -> list[str]:
    """Returns the lines below the table."""
    found, grey = [], problem.values
    text = "images are no grey values: log p is a density, in the units of the data"
    found.append(f"{grey} grey values, dequantised with {problem.config.draws} draws" if grey else text)
    if grey and not getattr(problem.run.experiment.config, "dequantise", False):
        found.append("the run was not trained on dequantised images, so it has too many bits: --dequantise")
    if len(values) == 2:
        inside, outside = values.values()
        first, second = values
        what = f"pairs of {first} and {second} in which the first is more likely"
        found.append(f"{what}: {report.more_likely(inside, outside):.1%}")
    lost = sum(each["not_finite"] for each in table)
    if lost:
        found.append(f"{lost} examples did not arrive: the score is not finite or too steep on their way")
    return found


def interpolated(problem: Problem, images: np.ndarray, sets: Sets, path: Path) -> float:
    """Draws the arcs between pairs of images; returns the RMS error of decoding what was encoded, in 0..1."""
    config, experiment = problem.config, problem.run.experiment
    chosen = np.linspace(0, len(images) - 1, 2 * PAIRS).astype(int)
    of_pairs = problem.numbers(next(iter(sets.values()))[1][chosen])
    given = {"sigma_min": config.sigma_min, "sigma_max": config.sigma_max, "moments": problem.moments}
    given |= {"rtol": config.tolerance, "atol": config.tolerance}

    @partial(jax.jit, compiler_options=compiler_options())
    def draw(params, x, of_pairs):
        ends = likelihood.encode(problem.score(params, of_pairs), x, **given).x
        apart = lambda z: jnp.repeat(z, STEPS, axis=0)
        w = jnp.tile(jnp.linspace(0.0, 1.0, STEPS), PAIRS)
        z = likelihood.interpolate(apart(ends[:PAIRS]), apart(ends[PAIRS:]), w)
        return likelihood.decode(problem.score(params, apart(of_pairs[:PAIRS])), z, **given).x

    x = experiment.units.encode(jnp.asarray(images[chosen]))
    console.say("the images between latents ...")
    found = np.asarray(experiment.units.decode(draw(problem.run.params, x, of_pairs)))
    found = found.reshape(PAIRS, STEPS, *images.shape[1:])
    report.arcs(np.clip(found, 0, 1), path)
    return float(np.sqrt(np.mean((found[:, 0] - images[chosen[:PAIRS]]) ** 2)))

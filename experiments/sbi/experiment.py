"""Posteriors p(theta | y) learnt from simulations, for every observation y of a task at once.

    python -m experiments.sbi --task two_moons
    python -m experiments.sbi --task slcp --simulations 100_000

A conditional score network learns from pairs of parameters and simulated data. It is sampled for the ten
observations whose posteriors are published, and for fresh simulations. The draws are compared with the
published draws by a classifier (C2ST), and the ranks of the true parameters show whether the posteriors are
calibrated. The averages of the parameters are validated on held-out simulations before each checkpoint, and
the best checkpoint is the one that is used.

Sources: Lueckmann et al. 2021 (tasks, C2ST); Karras et al. 2022 (preconditioning, noise levels).
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.sbi import report, simulations
from experiments.sbi.config import Config, optimizer
from experiments.sbi.coordinates import Coordinates
from experiments.sbi.judging import Judge, outside, summary, two_sample
from experiments.sbi.network import Network
from experiments.sbi.posterior import Posterior
from experiments.sbi.references import NUMBERS, reference
from experiments.sbi.simulations import Simulations
from experiments.sbi.tasks import TASKS
from jaxscore import data, diagnostics, keys, launch, networks, noise, objectives, samplers
from jaxscore.keys import Stream
from jaxscore.launch import Experiment, Units, flags, metrics_log
from jaxscore.score import preconditioned
from jaxscore.types import AnyArray, Array, Params, ScoreFn

BIN_EDGES = (0.03, 0.1, 0.3, 1.0)
"""The edges of the bins of the loss by noise level."""

TASK_DEFAULTS: dict[str, dict[str, Any]] = {
    "two_moons": {"steps": 30_000, "dropout": 0.0, "optimizer": optimizer(weight_decay=0.1)},
    "gaussian_mixture": {"steps": 30_000, "dropout": 0.0, "optimizer": optimizer(weight_decay=0.1)},
    "slcp": {"steps": 30_000, "dropout": 0.05, "optimizer": optimizer(weight_decay=0.2)},
}
"""Flags of which a task has defaults of its own: more steps where the loss still falls after 12,000.

The posteriors of the two tasks with two parameters are sharp, and networks do not overfit their simulations,
so they are regularised less. So is slcp, whose points have 24 orders.
"""

VALIDATED = 8192
"""Number of noisy parameters that the validation loss is the mean of, at least."""


class Problem(NamedTuple):
    """The simulations, and the coordinates that are measured on them."""

    training: Simulations
    held_out: Simulations
    parameters: Coordinates
    data: Callable[[AnyArray], Array]
    """data(y[b, m]) -> what the network sees of them [b, e]."""
    moments: samplers.Moments
    """Mean and covariance of the encoded parameters."""


def load(config: Config) -> Problem:
    """Returns the simulations of the task, made from the seed. Raises DataError if too few are finite."""
    key = keys.stream(config.seed, Stream.DATA)
    found = simulations.simulated(key, TASKS[config.task], config.simulations)
    training, held_out = simulations.split(found, round(config.held_out * config.simulations))
    parameters = simulations.parameters(TASKS[config.task], training.theta)
    moments = samplers.moments(np.asarray(parameters.encode(training.theta)))
    encode = simulations.data(training.y, points_of(config))
    return Problem(training, held_out, parameters, encode, moments)


def build(config: Config) -> Experiment:
    """Returns the experiment that the flags describe.

    Sampling and evaluation raise Refusal if the published observations are not installed; `launch.run` tries
    both before it trains.

    Raises data.DataError if too few simulations are finite.
    """
    problem, network = load(config), network_of(config)
    score, posterior = score_of(network, problem), posterior_of(config, problem)
    judge, training = Judge(config, posterior), problem.training
    event = training.theta.shape[1:]
    return Experiment(
        name="sbi",
        config=config,
        init=networks.init(network, event, problem.data(training.y[:1])),
        loss=partial(loss, config, network, problem),
        validate=partial(validate, config, score, problem),
        batches=partial(data.batches, {"x": training.theta, "y": training.y}),
        samplers={"posterior": posterior.draw},
        score=score,
        units=Units(problem.parameters.encode, problem.parameters.decode),
        conditions=partial(conditions, config.task),
        evaluate=partial(evaluate, config, problem, judge),
        table=report.table,
        report=partial(draw_report, config, judge),
    )


def conditions(task: str, numbers: Array) -> Array:
    """Returns the observations [n, m] of samples of these numbers: all ten of the task, in turn."""
    observations = np.stack([reference(task, number).observation for number in NUMBERS])
    return jnp.asarray(observations)[numbers % len(observations)]


def points_of(config: Config) -> int:
    """Returns the number of independent points of y that training makes use of."""
    return TASKS[config.task].points if config.exchangeable else 1


# The model ----------------------------------------------------------------------------------------


def network_of(config: Config) -> Network:
    """Returns the network that the flags describe."""
    return Network(config.width, config.depth, config.embedding, config.dropout, config.remat)


def score_of(network: Network, problem: Problem, **given: Any):
    """Returns score(params, z, sigma, condition) of encoded parameters z, given data in the task's units."""
    score = preconditioned(partial(network.apply, **given), 1.0)
    return lambda params, z, sigma, condition: score(params, z, sigma, problem.data(condition))


def posterior_of(config: Config, problem: Problem) -> Posterior:
    """Returns the posterior whose network the flags describe."""
    score = score_of(network_of(config), problem)
    return Posterior(score, problem.parameters, problem.moments, config.sampling)


# Training -----------------------------------------------------------------------------------------


def losses(config: Config, score: ScoreFn, problem: Problem, key, theta: Array) -> tuple[Array, Array]:
    """Returns the weighted denoising loss of each row and its noise level, ln sigma ~ N(mean, std^2)."""
    schedule = noise.lognormal(config.sigma_mean, config.sigma_std)
    objective = objectives.over_levels(objectives.noise_conditional, schedule, weight=objectives.edm(1.0))
    return objective(score, key, problem.parameters.encode(theta), with_sigma=True)


def loss(config: Config, network: Network, problem: Problem, params: Params, context, batch):
    """Denoising score matching of the parameters, given the data of each simulation."""
    key, key_dropout, key_order = jax.random.split(context.key, 3)
    y = simulations.reordered(key_order, batch["y"], points_of(config))
    score = score_of(network, problem, train=True, rngs={"dropout": key_dropout})
    given = partial(score, params, condition=y)
    value, sigma = losses(config, given, problem, key, batch["x"])
    return value.mean(), {"by_sigma": diagnostics.by_sigma(value, sigma, BIN_EDGES)}


def validate(config: Config, score, problem: Problem, params: Params) -> Array:
    """Returns the mean loss of the held-out simulations, each with several noise levels that never change."""
    held_out = problem.held_out
    repeats = -(-VALIDATED // len(held_out.theta))
    theta, y = (jnp.tile(jnp.asarray(rows), (repeats, 1)) for rows in held_out[:2])
    key = noise.fold_in(keys.stream(config.seed, Stream.EVALUATE), 3)
    value, _ = losses(config, partial(score, params, condition=y), problem, key, theta)
    return value.mean()


# Evaluation ---------------------------------------------------------------------------------------


def evaluate(
    config: Config, problem: Problem, judge: Judge, params: Params, samples: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Returns the C2ST of the ten observations, and the calibration of fresh simulations."""
    theta, ranks = samples["posterior"], judge.ranks(params, len(samples["posterior"]))
    history = metrics_log.read(config.workdir / "metrics.jsonl")
    settings = {"task": config.task, "simulations": len(problem.training.theta) + len(problem.held_out.theta)}
    settings |= {"held_out": len(problem.held_out.theta), "dropped": problem.training.dropped}
    settings |= {"outside": outside(TASKS[config.task], theta) + int(ranks["outside"][0])}
    settings |= {"steps": config.steps, "best_step": report.best(history).get("step")}
    settings |= {"training_seconds": report.seconds(history)}
    return {
        "settings": settings,
        "c2st": two_sample(config, theta),
        "calibration": summary(ranks),
        "notes": notes(config, len(theta)),
    }


def notes(config: Config, samples: int) -> list[str]:
    """Returns the lines below the table."""
    needed = config.c2st_draws * len(NUMBERS)
    if samples < needed:
        least = f"--c2st-draws {config.c2st_draws} needs --samples {needed}"
        return [f"{samples} samples are {samples // len(NUMBERS)} draws of each observation; {least}"]
    if config.c2st_draws == 10_000:
        return []
    return ["published figures are with 10,000 draws: give --c2st-draws 10000 to compare with them"]


def draw_report(
    config: Config,
    judge: Judge,
    params: Params,
    samples: dict[str, np.ndarray],
    history: list[dict[str, Any]],
    folder: Path,
) -> list[Path]:
    """Draws the pictures of `report`."""
    ranks = judge.ranks(params, len(samples["posterior"]))
    return report.report(config, ranks, samples["posterior"], history, folder)


# The command --------------------------------------------------------------------------------------


def main() -> None:
    """Parse flags on top of the task's defaults, and run."""
    with launch.one_line_errors():
        task = flags.choose("task", TASKS, Config.task)
        config = flags.parse(defaults(task))
        with launch.running(config):
            launch.run(build(config), config.workdir, mode=config.mode, recipe=defaults(task))


def defaults(task: str) -> Config:
    """Returns the flags' defaults for a task, `TASK_DEFAULTS`; each task has a folder of its own."""
    given = {"task": task, "workdir": Path("runs") / f"sbi-{task}"}
    return dataclasses.replace(Config(), **given, **TASK_DEFAULTS.get(task, {}))

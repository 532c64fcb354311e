"""The smallest experiment that the launcher can run, with hooks for what may go wrong."""

import dataclasses
import itertools
import os
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscore import checkpoint, diagnostics, noise, objectives, samplers, sharding
from jaxscore.data import Dataset
from jaxscore.launch import config, metrics_log, plots, programs
from jaxscore.launch.config import Optimizer
from jaxscore.launch.experiment import Experiment
from jaxscore.score import preconditioned
from tests.checkpoint.states import assert_identical as assert_identical

EDGES = (0.3, 1.0)
DATA = Dataset(np.zeros((4, 2), np.float32), np.zeros(4, np.int32))
"""What the fingerprint is of; the batches are drawn from a generator."""

RENEWED = {"launches.jsonl", "report/index.html", "report/table.json"}
"""What every start of a run writes: its line, and the page."""

FINE, BAD_LOSS, BAD_GRADIENT = range(3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config.Config):
    """A few steps of a small network on points of the plane, on the eight simulated devices."""

    workdir: Path = Path("unused")
    steps: int = 12
    batch: int = 16
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer(warm_up=2))
    samples: int = 20
    sample_batch: int = 16
    log_every: int = 4
    save_every: int = 6
    width: int = 8


class Hooks(NamedTuple):
    """What `build` counts, and what happens when the batch of a step is asked for."""

    calls: Counter
    before: dict[int, Any]
    """step, from 0 -> a function called before its batch is handed out"""
    plant: dict[int, int]
    """step, from 0 -> BAD_LOSS or BAD_GRADIENT"""


def network(params, x, c_noise):
    """Two layers; few parameters, because every run compiles, saves and restores them."""
    h = jnp.concatenate([x, c_noise[:, None]], axis=1) @ params["in"]["kernel"]
    return jnp.tanh(h + params["in"]["bias"][None]) @ params["out"]["kernel"]


def hooks(*, before=None, plant=None) -> Hooks:
    return Hooks(Counter(), before or {}, plant or {})


def asked_for() -> tuple[Hooks, list[int]]:
    """Hooks that list the steps whose batches are asked for."""
    steps = []
    return hooks(before={step: partial(steps.append, step) for step in range(30)}), steps


def build(config: Config, hooks: Hooks | None = None, *, name: str = "tiny") -> Experiment:
    hooks = hooks or Hooks(Counter(), {}, {})
    score = preconditioned(network, sigma_data=1.0)
    schedule = noise.geometric(0.1, 3.0)

    def init(key):
        hooks.calls["init"] += 1
        key_in, key_out = jax.random.split(key)
        return {
            "in": {"kernel": jax.random.normal(key_in, (3, config.width)), "bias": jnp.zeros(config.width)},
            "out": {"kernel": jax.random.normal(key_out, (config.width, 2)) / 10},
        }

    objective = objectives.over_levels(objectives.noise_conditional, schedule)

    def loss(params, context, batch):
        planted = batch["planted"].max()
        losses, sigma = objective(partial(score, params), context.key, batch["x"], with_sigma=True)
        value = losses.mean() + jnp.where(planted == BAD_LOSS, jnp.nan, 0.0)
        # The root's slope at 0 is infinite: the value stays, its gradient is inf * 0.
        spoil = lambda value: value + jnp.sqrt(0 * value)
        value = jax.lax.cond(planted == BAD_GRADIENT, spoil, lambda value: value, value)
        return value, {"by_sigma": diagnostics.by_sigma(losses, sigma, EDGES)}

    def batches(*, batch, seed, start=0, rows=None):
        rows = np.arange(batch) if rows is None else rows
        for step in itertools.count(start):
            hooks.before.get(step, lambda: None)()
            x = np.random.default_rng([seed, step]).standard_normal((batch, 2)).astype(np.float32)
            planted = np.full(batch, hooks.plant.get(step, FINE), np.float32)
            yield {"x": x[rows], "planted": planted[rows]}

    def one(params, keys):
        hooks.calls["sampler"] += 1
        sigmas, bound = noise.levels(schedule, 3), partial(score, params)
        return samplers.generate(keys, (2,), sigmas, bound, samplers.heun())

    def two(params, keys):
        hooks.calls["sampler"] += 1
        x = samplers.prior(keys, (len(keys), 2), 1.0)
        return {"start": x, "length": jnp.sum(x**2, axis=1)}

    def evaluate(params, samples):
        hooks.calls["evaluate"] += 1
        return {"mean": samples["one"].mean(axis=0).tolist(), "n": len(samples["one"])}

    def report(params, samples, history, folder):
        hooks.calls["report"] += 1
        with plots.page(folder / "points.png", columns=1, size=2.0) as (axes,):
            plots.points(axes, samples["one"], "samples")
        return [folder / "points.png"]

    return Experiment(
        name=name,
        config=config,
        init=init,
        loss=loss,
        batches=batches,
        data=DATA,
        samplers={"one": one, "two": two},
        evaluate=evaluate,
        table=lambda metrics: [("samples", "mean"), (str(metrics["n"]), f"{metrics['mean'][0]:.3f}")],
        report=report,
    )


def newest(folder: Path, experiment: Experiment) -> Any:
    """The newest training state in the folder, in NumPy."""
    abstract = programs.abstract_state(experiment, sharding.mesh())
    with checkpoint.manager(folder / "checkpoints") as checkpoints:
        return jax.device_get(checkpoint.restore_latest(checkpoints, abstract))


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every file with its contents, and every folder, below `folder`."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def rows(folder: Path) -> list[dict]:
    """What metrics.jsonl says, without the speed."""
    return [
        {name: value for name, value in row.items() if name not in ("steps_per_second", "input_wait")}
        for row in metrics_log.read(folder / "metrics.jsonl")
    ]


def saved_steps(folder: Path) -> list[int]:
    with checkpoint.manager(folder / "checkpoints") as checkpoints:
        return sorted(checkpoints.orbax.all_steps())


def crash() -> None:
    """A fault that nobody handles."""
    raise RuntimeError("power cut")


def kill(number: int):
    """A function that sends this process the signal."""
    return lambda: os.kill(os.getpid(), number)

"""Speed, as ratios that carry over from machine to machine.

    python -m experiments.bench

For the network and the samplers of the digits experiment: sampling time over the number of network
evaluations times the bare jitted forward pass; temporary memory against the number of steps. For its
training step and NCSNv2's: compile time, and FLOP/s as a fraction of a measured matrix product's.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments import console, digits, flags, launch, ncsn, programs, workdir
from experiments.config import Experiment
from experiments.ncsn_config import PRESETS
from jaxscore import noise, samplers, sharding
from jaxscore.networks import MLP
from jaxscore.score import preconditioned


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is timed, and how often."""

    batch: int = 1797
    """Samples drawn at a time."""
    repeats: int = 9
    """Timings of each thing, of which the median counts; the things are timed in turn."""
    matrix: int = 2048
    """Side of the square matrices whose product sets the scale."""
    out: Path | None = None
    """A JSON file for the figures, if wanted."""

    def __post_init__(self):
        for name in ("batch", "repeats", "matrix"):
            flags.require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")


def median_seconds(jobs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The median time of each job; a round runs them all, so that a slow moment hits them all."""
    for job in jobs.values():
        jax.block_until_ready(job())
    seconds = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            begin = time.perf_counter()
            jax.block_until_ready(job())
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def sampling(config: Config) -> dict[str, float]:
    """Time over evaluations x forward pass for each sampler, and temporary memory over steps."""
    recipe = digits.Config()
    network = MLP(width=recipe.width, depth=recipe.depth)
    key, x = jax.random.key(0), jnp.ones((config.batch, 8, 8, 1))
    params = network.init(key, x[:1], jnp.zeros(1))
    score = preconditioned(network.apply, sigma_data=0.5)

    def compiled(sampler, levels):
        """The whole run, and the bytes that it needs beside its arguments and results."""
        sigmas = noise.levels(noise.karras(0.02, 20.0), levels)
        run = lambda params, x: samplers.sample(key, x, sigmas, partial(score, params), sampler)[0]
        run = jax.jit(run).lower(params, x).compile()
        return run, run.memory_analysis().temp_size_in_bytes

    langevin = samplers.repeat(samplers.langevin(samplers.annealed(1e-4, 0.02)), 2)
    chosen = {
        "euler": (samplers.euler(), 18, 18),
        "heun": (samplers.heun(), 18, 35),
        "ancestral": (samplers.ancestral(), 18, 18),
        "annealed Langevin": (langevin, 18, 36),
    }
    runs = {name: compiled(sampler, levels)[0] for name, (sampler, levels, _) in chosen.items()}
    forward = jax.jit(network.apply)
    jobs = {name: partial(run, params, x) for name, run in runs.items()}
    jobs["forward"] = lambda: forward(params, x, jnp.zeros(config.batch))
    seconds = median_seconds(jobs, config.repeats)
    figures = {"forward pass, ms": 1e3 * seconds["forward"]}
    for name, (_, _, evaluations) in chosen.items():
        ratio = seconds[name] / (evaluations * seconds["forward"])
        figures[f"{name}: time / ({evaluations} evaluations x forward pass)"] = ratio
    few, many = (compiled(samplers.heun(), levels)[1] for levels in (18, 180))
    return figures | {"heun: temporary memory, 180 steps / 18 steps": many / few}


def ncsnv2() -> Experiment:
    """NCSNv2 of width 64 on images of 32 x 32 x 3, 16 in a batch."""
    config = dataclasses.replace(PRESETS["cifar10"], channels=64, batch=16)
    return ncsn.assemble(config, np.zeros((16, *config.shape), np.float32), np.zeros(16, np.int32))


def training(config: Config, experiment: Experiment) -> dict[str, float]:
    """The experiment's training step: seconds, compile seconds, and its share of the peak.

    The peak is a measured product of square float32 matrices, so the share is of what this machine
    really gives, not of what is printed on it.
    """
    mesh = sharding.mesh()
    state = jax.jit(programs.init_state(experiment))(jax.random.key(0))
    state = jax.device_put(state, sharding.replicated(mesh))
    batch = jax.device_put(next(experiment.batches(0)), sharding.batched(mesh))
    key = jax.random.key(1)
    begin = time.perf_counter()
    step = programs.make_step(experiment, mesh).lower(key, state, batch).compile()
    compile_seconds = time.perf_counter() - begin
    flops = step.cost_analysis()["flops"] * mesh.size
    latest = [state]

    def train():
        latest[0], metrics = step(key, latest[0], batch)
        return metrics

    square = jnp.ones((config.matrix, config.matrix))
    product = jax.jit(jnp.matmul)
    seconds = median_seconds({"step": train, "product": lambda: product(square, square)}, config.repeats)
    peak = 2 * config.matrix**3 / seconds["product"]
    return {
        "training step, ms": 1e3 * seconds["step"],
        "training step, compile seconds": compile_seconds,
        "training step, GFLOP/s": flops / seconds["step"] / 1e9,
        "matrix product, GFLOP/s": peak / 1e9,
        "training step: time / matrix product of its FLOPs": seconds["step"] * peak / flops,
    }


def main() -> None:
    """Print the figures, and write them if asked."""
    with launch.one_line_errors():
        config = flags.parse(Config())
        measure(config)


def measure(config: Config) -> None:
    """All of it, as one table."""
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    figures = sampling(config)
    for name, experiment in {"digits": digits.build(digits.Config()), "NCSNv2": ncsnv2()}.items():
        figures |= {f"{name}: {what}": value for what, value in training(config, experiment).items()}
    rows = [("", device), *((name, f"{value:.3f}") for name, value in figures.items())]
    console.say(console.table(rows))
    if config.out:
        workdir.write_json(config.out, {"device": device, **figures})


if __name__ == "__main__":
    main()

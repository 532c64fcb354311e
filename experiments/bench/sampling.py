"""Sampling as `bench` measures it: time over evaluations of the network, and images per second."""

import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench.timing import median_seconds, rounds, spread
from experiments.bench.workloads import Workload
from experiments.digits import experiment as digits
from jaxscore import noise, samplers, sharding
from jaxscore.launch import programs
from jaxscore.networks import MLP
from jaxscore.score import preconditioned

Results = dict[str, Any]


def measure(workload: Workload, *, repeats: int) -> Results:
    """Seconds to compile the sampler, and images per second of the whole recipe's."""
    experiment, mesh = workload.sampled, sharding.mesh()
    rows = -(-min(experiment.config.sample_batch, experiment.config.samples) // mesh.size) * mesh.size
    params = jax.jit(experiment.init, out_shardings=sharding.replicated(mesh))(jax.random.key(0))
    root, start = jax.random.key(2), jnp.int32(0)
    program = programs.make_sampler(experiment, workload.sampler, mesh, rows)
    begin = time.perf_counter()
    program = program.lower(params, root, start).compile()
    compile_seconds = time.perf_counter() - begin
    seconds = np.asarray(rounds({"sample": lambda: program(params, root, start)}, repeats)["sample"])
    each = seconds / workload.evaluations
    name = f"sampling by {workload.sampler}"
    return {
        f"{name}, ms per evaluation of {rows} images": spread(1e3 * each),
        f"{name}, images/s ({workload.whole} evaluations)": spread(rows / (each * workload.whole)),
        f"{name}, compile seconds": compile_seconds,
    }


def ratios(batch: int, repeats: int) -> Results:
    """Time over evaluations x forward pass for each sampler of digits, and temporary memory over steps."""
    recipe = digits.Config()
    network = MLP(width=recipe.width, depth=recipe.depth)
    key, x = jax.random.key(0), jnp.ones((batch, 8, 8, 1))
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
    jobs["forward"] = lambda: forward(params, x, jnp.zeros(batch))
    seconds = median_seconds(jobs, repeats)
    figures = {"forward pass, ms": 1e3 * seconds["forward"]}
    for name, (_, _, evaluations) in chosen.items():
        ratio = seconds[name] / (evaluations * seconds["forward"])
        figures[f"{name}: time / ({evaluations} evaluations x forward pass)"] = ratio
    few, many = (compiled(samplers.heun(), levels)[1] for levels in (18, 180))
    return figures | {"heun: temporary memory, 180 steps / 18 steps": many / few}

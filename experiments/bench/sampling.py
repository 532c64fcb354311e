"""Benchmarks of sampling: time per evaluation of the network, and images per second."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench.workloads import Workload
from experiments.common.timing import median_seconds, rounds, spread
from experiments.digits import experiment as digits
from jaxscore import noise, samplers, sharding
from jaxscore.launch.sample import compile_sampler
from jaxscore.networks import MLP
from jaxscore.score import preconditioned

Results = dict[str, Any]


def measure(workload: Workload, *, repeats: int) -> Results:
    """Results for the workload's sampler, by name.

    The sampler may be a short one. Images per second are calculated for the whole sampler, whose time is
    proportional to its evaluations of the network.
    """
    experiment, mesh = workload.sampled, sharding.mesh()
    params = jax.jit(experiment.init, out_shardings=sharding.replicated(mesh))(jax.random.key(0))
    program, rows, compile_seconds = compile_sampler(experiment, workload.sampler, mesh)
    root = jax.random.key(2)
    seconds = np.asarray(rounds({"sample": lambda: program(params, root, np.int32(0))}, repeats)["sample"])
    each = seconds / workload.evaluations
    name = f"sampling by {workload.sampler}"
    return {
        f"{name}, ms per evaluation of {rows} images": spread(1e3 * each),
        f"{name}, images/s ({workload.whole} evaluations)": spread(rows / (each * workload.whole)),
        f"{name}, compile seconds": compile_seconds,
    }


def ratios(batch: int, repeats: int) -> Results:
    """Overhead of each sampler of the digits experiment, and growth of Heun's memory with the steps.

    The overhead is the sampler's time, divided by its evaluations of the network times the time of a forward
    pass. It is 1 for a sampler without any cost of its own.
    """
    config = digits.Config()
    network = MLP(width=config.width, depth=config.depth)
    key, x = jax.random.key(0), jnp.ones((batch, 8, 8, 1))
    params = network.init(key, x[:1], jnp.zeros(1))
    score = preconditioned(network.apply, sigma_data=0.5)

    def compiled(sampler, n_levels):
        """The compiled sampler, and its temporary memory in bytes."""
        sigmas = noise.levels(noise.karras(0.02, 20.0), n_levels)
        run = lambda params, x: samplers.sample(key, x, sigmas, partial(score, params), sampler)[0]
        run = jax.jit(run).lower(params, x).compile()
        return run, run.memory_analysis().temp_size_in_bytes

    langevin = samplers.repeat(samplers.langevin(samplers.annealed(1e-4, 0.02)), 2)
    chosen = {
        "euler": samplers.euler(),
        "heun": samplers.heun(),
        "ancestral": samplers.ancestral(),
        "annealed Langevin": langevin,
    }
    runs = {name: compiled(sampler, 18)[0] for name, sampler in chosen.items()}
    forward = jax.jit(network.apply)
    jobs = {name: partial(run, params, x) for name, run in runs.items()}
    jobs["forward"] = lambda: forward(params, x, jnp.zeros(batch))
    seconds = median_seconds(jobs, repeats)
    results = {"forward pass, ms": 1e3 * seconds["forward"]}
    for name, sampler in chosen.items():
        evaluations = samplers.evaluations(sampler, 18)
        ratio = seconds[name] / (evaluations * seconds["forward"])
        results[f"{name}: time / ({evaluations} evaluations x forward pass)"] = ratio
    few, many = (compiled(samplers.heun(), n_levels)[1] for n_levels in (18, 180))
    return results | {"heun: temporary memory, 180 steps / 18 steps": many / few}

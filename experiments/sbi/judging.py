"""How posteriors are judged: against published draws, and on fresh simulations without any reference.

    c2st            ten observations: the accuracy of a classifier between reference draws and learnt draws
    calibration     fresh simulations: ranks of the true parameters among the draws of their posteriors

Both are saved in the folder of the run as soon as they are known; a killed evaluation goes on where it was.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments.sbi.config import Config
from experiments.sbi.posterior import Posterior, blocks
from experiments.sbi.references import NUMBERS, reference
from experiments.sbi.simulations import simulated
from experiments.sbi.tasks import TASKS, Task
from jaxscore import keys, metrics, noise
from jaxscore.keys import Stream
from jaxscore.launch import NonFinite, console, workdir
from jaxscore.metrics import calibration

LEVELS = (0.5, 0.8, 0.95)
"""Levels of the coverage in the table."""

LOWEST = -1e30
"""Stands for a log likelihood of -inf, which has no rank."""

Ranks = dict[str, np.ndarray]
"""Ranks of fresh simulations: sbc [n, d], likelihood [n], tarp [n], density [k]; and `dropped` [1]."""

# Reference draws ----------------------------------------------------------------------------------


def of_observation(theta: np.ndarray, number: int) -> np.ndarray:
    """Returns the draws of observation `number`, 1..10: every tenth sample is one of them."""
    return theta[number - 1 :: len(NUMBERS)]


def two_sample(config: Config, theta: np.ndarray) -> dict[str, Any]:
    """Returns the C2ST of each observation against its reference draws.

    The number of draws is that of --c2st-draws, or as many as there are. An observation with fewer than ten
    draws has none.
    """
    accuracies, used = [], 0
    path = config.workdir / "c2st.json"
    for number in console.in_turn(NUMBERS[: config.c2st_observations], "C2ST, observations"):
        mine = of_observation(theta, number)[: config.c2st_draws]
        if len(mine) < 10:
            continue
        name, used = f"{config.task} {number}: {_digest(mine)}", len(mine)
        known = workdir.read_json(path) or {}
        if name not in known:
            exact = reference(config.task, number).draws[: len(mine)]
            known[name] = metrics.c2st(exact, mine).accuracy
            workdir.write_json(path, known)
        accuracies.append(known[name])
    if not accuracies:
        return {"draws": used, "accuracies": []}
    error = float(np.sqrt(0.25 / used / len(accuracies)))
    return {"draws": used, "accuracies": accuracies, "mean": float(np.mean(accuracies)), "error": error}


def _digest(*arrays: Any) -> str:
    found = hashlib.blake2b(digest_size=8)
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


# Fresh simulations --------------------------------------------------------------------------------


class Judge:
    """Draws the posteriors of fresh simulations and ranks the true parameters among them."""

    def __init__(self, config: Config, posterior: Posterior):
        self.config, self.task = config, TASKS[config.task]
        self.draw = jax.jit(posterior.draw)
        self.log_density = jax.jit(partial(posterior.log_density, tolerance=config.calibration.tolerance))

    def ranks(self, params: Any, samples: int) -> Ranks:
        """Returns the ranks; ranks in the folder are not drawn again.

        A trial of the evaluation has fewer `samples` than --samples, and then it has few draws here.
        """
        given = self.config.calibration
        n, k = given.simulations, given.draws
        if samples < self.config.samples:
            n, k = min(n, calibration.FEWEST), min(k, 2)
        asked = f"{given} {n} {k} {self.config.task} {self.config.seed} {self.config.sampling}"
        stamp = f"{asked} {_digest(*jax.tree.leaves(params))}"
        path = self.config.workdir / "calibration.npz"
        found, of = workdir.read_samples(path)
        if of != stamp:
            console.say(f"calibration: {n} simulations with {k} draws each")
            found = self._measured(params, n, k)
            self.config.workdir.mkdir(parents=True, exist_ok=True)
            workdir.write_samples(path, found, stamp)
        return found

    def _measured(self, params: Any, n: int, k: int) -> Ranks:
        root = keys.stream(self.config.seed, Stream.EVALUATE)
        fresh = simulated(noise.fold_in(root, 0), self.task, n)
        truths, y, n = fresh.theta, fresh.y, len(fresh.theta)
        rows, size = noise.row_keys(noise.fold_in(root, 1), n * k), self.config.sample_batch
        draw = partial(self.draw, params)
        draws = np.asarray(blocks(draw, size, rows, np.repeat(y, k, axis=0))).reshape(n, k, -1)
        if lost := int(np.sum(~np.isfinite(draws).all(axis=(1, 2)))):
            remedy = "lower --sampling.sigma-max, or train longer"
            raise NonFinite(f"draws for {lost} of {n} fresh simulations are not finite; {remedy}")
        found = {"dropped": np.array([fresh.dropped]), "draws_for_each": np.array([k])}
        found["outside"] = np.array([outside(self.task, draws.reshape(n * k, -1))])
        found["sbc"] = calibration.sbc_ranks(truths, draws)
        found["tarp"] = calibration.tarp_ranks(truths, draws)
        found["likelihood"] = self._likelihood_ranks(truths, draws, y)
        if self.config.calibration.densities:
            few = slice(min(n, self.config.calibration.densities))
            found["density"] = self._density_ranks(params, truths[few], draws[few], y[few])
        return found

    def _likelihood_ranks(self, truths: np.ndarray, draws: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Returns SBC ranks of the log likelihood, which show a posterior that ignores the data."""
        of = lambda theta, y: np.maximum(np.asarray(self.task.log_likelihood(theta, y)), LOWEST)
        n, k, d = draws.shape
        each = of(draws.reshape(n * k, d), np.repeat(y, k, axis=0)).reshape(n, k, 1)
        return calibration.sbc_ranks(of(truths, y)[:, None], each)[:, 0]

    def _density_ranks(
        self, params: Any, truths: np.ndarray, draws: np.ndarray, y: np.ndarray
    ) -> Float[np.ndarray, "n"]:
        """Returns ranks by the learnt log density of the truth and of some of the draws."""
        together = np.concatenate([truths[:, None], draws], axis=1)
        together = together[:, : 1 + self.config.calibration.density_draws]
        n, k, d = together.shape
        root = noise.fold_in(keys.stream(self.config.seed, Stream.EVALUATE), 2)
        program = lambda rows, theta, y: self.log_density(params, rows, theta, y)
        given = noise.row_keys(root, n * k), together.reshape(n * k, d), np.repeat(y, k, axis=0)
        log_p = np.asarray(blocks(program, 512, *given)).reshape(n, k)
        return calibration.density_ranks(log_p[:, 0], log_p[:, 1:])


def outside(task: Task, theta: np.ndarray) -> int:
    """Returns the number of draws outside of the prior's support."""
    log_prior: Callable[[Any], Any] = task.log_prior
    return int(np.sum(~np.isfinite(np.asarray(log_prior(jnp.asarray(theta))))))


def summary(ranks: Ranks) -> dict[str, Any]:
    """Returns p-values and coverages of the ranks; all are what exact posteriors have only by chance."""
    tests = {name: calibration.uniformity(ranks[name]).p_value for name in _tested(ranks)}
    found = {"simulations": len(ranks["sbc"]), "dropped": int(ranks["dropped"][0]), "p_values": tests}
    found["draws"] = int(ranks["draws_for_each"][0])
    found["densities"] = len(ranks.get("density", ()))
    for name in ("sbc", "density"):
        if name in ranks:
            cover = calibration.coverage_at(ranks[name], LEVELS, central=name == "sbc")
            each = cover.fraction.reshape(len(LEVELS), -1)
            found[f"{name}_coverage"] = {"fraction": each.mean(axis=1), "error": cover.error}
    return found


def _tested(ranks: Ranks) -> list[str]:
    return [name for name in ("sbc", "likelihood", "tarp", "density") if name in ranks]

"""`experiments.sbi` with few simulations and the smallest network."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.sbi import references
from experiments.sbi.config import Calibration, Config, Sampling
from experiments.sbi.coordinates import chain, standardised
from experiments.sbi.experiment import defaults
from experiments.sbi.posterior import Posterior
from experiments.sbi.tasks import TASKS, joint
from jaxscore import samplers
from jaxscore.launch import Optimizer

needs_package = pytest.mark.skipif(
    references.folder() is None, reason="sbibm is not installed: pip install --no-deps sbibm"
)

CALIBRATION = Calibration(simulations=8, draws=4, densities=7, density_draws=2, tolerance=0.1)


def config(folder: Path, task: str = "two_moons", **changes) -> Config:
    """Four steps of training, eight levels of sampling, in folder/run."""
    small = {"simulations": 200, "held_out": 0.2, "batch": 16, "steps": 4, "save_every": 2, "log_every": 2}
    small |= {"samples": 120, "sample_batch": 40, "width": 8, "depth": 1, "embedding": 8, "ema_decay": 0.5}
    small |= {"sampling": Sampling(levels=8, sigma_min=0.02), "calibration": CALIBRATION}
    small |= {"optimizer": Optimizer(warm_up=2), "c2st_draws": 10, "c2st_observations": 2}
    return dataclasses.replace(defaults(task), **small | {"workdir": folder / "run"} | changes)


def linear(factor: float = 1.0) -> Posterior:
    """The exact posterior of gaussian_linear, N(y / 2, 0.05 I), with its standard deviation times a factor.

    The score is that of z = theta / std of the prior.
    """
    theta, _ = joint(jax.random.key(0), TASKS["gaussian_linear"], 4000)
    parameters = chain(standardised(np.asarray(theta)))
    centre = parameters.encode(np.zeros((1, 10), np.float32))
    slope = parameters.encode(np.ones((1, 10), np.float32)) - centre

    def score(params, z, sigma, condition):
        variance = 0.05 * factor**2 * slope**2
        return (centre + slope * condition / 2 - z) / (variance + sigma[:, None] ** 2)

    moments = samplers.moments(np.asarray(parameters.encode(np.asarray(theta))))
    return Posterior(score, parameters, moments, Sampling())

"""Flags of the likelihood experiment."""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta

from jaxscore.launch.flags import Count, Positive, Seed, check, require, require_sigmas

RESOLUTION = float(np.finfo(np.float32).eps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Likelihood of the examples of a trained run; without --run, the estimates on mixtures."""

    run: Path | None = None
    """Folder of a trained run whose experiment says what its score is."""
    experiment: str | None = None
    """Module with the run's `build` and its configuration; experiments.NAME if it is not given."""
    workdir: Path = Path("runs/likelihood")
    """Folder for likelihood.json and the pictures, from which a killed run resumes."""
    against: str | None = None
    """Data set that the run was not trained on; by default the same images upside down."""
    examples: Count | None = None
    """Number of examples of each set; by default all."""
    batch: Count = 100
    """Examples that are solved for together."""
    probes: Count = 8
    """Random probes of the trace."""
    draws: Count = 1
    """Draws of the noise that fills the cells of grey values; more make the bound tighter."""
    bound_draws: Count = 16
    """Noise levels of the variational bound."""
    sigma_min: Positive = 0.02
    """Noise level of the density, in the units of the score."""
    sigma_max: Positive = 20.0
    """Noise level of the prior."""
    tolerance: Positive = 1e-4
    """Tolerance of the solver, in nats and of x in units of its spread."""
    host: Annotated[int, Meta(ge=0)] = 0
    """Number of examples whose log density is also computed by SciPy's solver, to compare the times."""
    seed: Seed = 0
    """Seed of all random numbers."""

    def __post_init__(self):
        check(self)
        require_sigmas(self.sigma_min, self.sigma_max)
        remedy = f"is below the resolution of float32, {RESOLUTION:.1g}; choose 1e-06 or more"
        require(self.tolerance >= RESOLUTION, "tolerance", self.tolerance, remedy)

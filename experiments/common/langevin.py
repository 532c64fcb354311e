"""Annealed Langevin dynamics, with its flags."""

import dataclasses

from jaxscore import noise, samplers
from jaxscore.launch.flags import require, require_sigmas
from jaxscore.types import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Langevin:
    """Annealed Langevin dynamics over geometric levels sigma_1 > ... > sigma_L (Song & Ermon 2019)."""

    levels: int = 150
    """How many levels, L."""
    steps: int = 2
    """Langevin steps at each level, T."""
    step_size: float = 0.065
    """The step at level l in units of sigma_l^2: epsilon / sigma_L^2."""
    sigma_min: float = 0.1
    """The last level, sigma_L."""
    sigma_max: float = 2.0
    """The first level, sigma_1."""

    def __post_init__(self):
        require(self.levels >= 2, "langevin.levels", self.levels, "must be at least 2")
        require(self.steps >= 1, "langevin.steps", self.steps, "must be at least 1")
        remedy = "must lie between 0 and 2: Langevin dynamics diverges from 2 sigma^2 on"
        require(0 < self.step_size < 2, "langevin.step-size", self.step_size, remedy)
        require_sigmas(self.sigma_min, self.sigma_max, prefix="langevin.")

    def sigma_grid(self) -> Array:
        """Returns the levels sigma_1 > ... > sigma_L > 0."""
        return noise.levels(noise.geometric(self.sigma_min, self.sigma_max), self.levels)

    def sampler(self) -> samplers.Sampler:
        """Returns T Langevin steps at each level."""
        step_size = samplers.annealed(self.step_size * self.sigma_min**2, self.sigma_min)
        return samplers.repeat(samplers.langevin(step_size), self.steps)

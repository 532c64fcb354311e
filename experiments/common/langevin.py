"""Annealed Langevin dynamics, with its flags."""

import dataclasses
from typing import Annotated

from msgspec import Meta

from jaxscore import calibrate, noise, samplers
from jaxscore.launch import console
from jaxscore.launch.flags import Count, Levels, Positive, check, require_sigmas
from jaxscore.types import Array

StepSize = Annotated[float, Meta(gt=0, lt=2)]
"""A Langevin step in units of sigma^2; on a Gaussian of this variance the dynamics diverges from 2 on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Langevin:
    """Annealed Langevin dynamics over geometric levels sigma_1 > ... > sigma_L (Song & Ermon 2019)."""

    levels: Levels = 150
    """Number of noise levels, L."""
    steps: Count = 2
    """Number of Langevin steps at each level, T."""
    step_size: StepSize = 0.065
    """Langevin step at level l in units of sigma_l^2, epsilon / sigma_L^2."""
    sigma_min: Positive = 0.1
    """Smallest noise level, sigma_L."""
    sigma_max: float = 2.0
    """Largest noise level, sigma_1."""

    def __post_init__(self):
        check(self, "langevin.")
        require_sigmas(self.sigma_min, self.sigma_max, prefix="langevin.")

    def sigma_grid(self) -> Array:
        """Returns the levels sigma_1 > ... > sigma_L > 0."""
        return noise.levels(noise.geometric(self.sigma_min, self.sigma_max), self.levels)

    def sampler(self) -> samplers.Sampler:
        """Returns T Langevin steps at each level."""
        step_size = samplers.annealed(self.step_size * self.sigma_min**2, self.sigma_min)
        return samplers.repeat(samplers.langevin(step_size), self.steps)


def advise(step_size: float, sigma_min: float, sigma_max: float, levels: int, steps: int) -> None:
    """Prints a warning if the levels fall faster than Langevin dynamics follows: `calibrate.pace` above 1.

    Args:
        step_size: epsilon / sigma_L^2.
        sigma_min, sigma_max: smallest and largest noise level.
        levels: number of noise levels.
        steps: number of Langevin steps at each level.
    """
    ratio = (sigma_max / sigma_min) ** (1 / (levels - 1))
    pace = calibrate.pace(step_size * sigma_min**2, sigma_min, ratio, steps)
    if pace > 1:
        remedy = "take more levels, more steps at each level, or a larger step"
        console.say(
            f"warning: the pace of annealed Langevin dynamics is {pace:.1f}; above 1 noise is left; {remedy}"
        )

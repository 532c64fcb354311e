"""Consistency distillation (Song et al. 2023): the `consistency` family, with the teacher as the source.

    python -m experiments.families.distilled --data digits

The teacher is the denoiser of the first phase, so that teacher and student share one budget.
"""

import dataclasses
from functools import partial
from typing import Literal

from experiments.families import consistency, students
from experiments.families.consistency import evaluations as evaluations
from jaxscore import launch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(consistency.Config):
    """A consistency function that follows the probability flow of its teacher."""

    source: Literal["data", "teacher"] = "teacher"
    teacher: students.UnitInterval = 0.6


build = partial(consistency.build, name="distilled")

if __name__ == "__main__":
    launch.main(build, Config())

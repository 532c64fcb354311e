"""ddgan.py without its two aids, as vanilla_gan.py is gan.py: what the denoising steps do by themselves.

python -m experiments.families.vanilla_ddgan --data 25gaussians --denoising-steps 4
"""

import dataclasses

from experiments.families import ddgan
from experiments.families.ddgan import build as build
from experiments.families.ddgan import evaluations as evaluations
from jaxscore import launch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ddgan.Config):
    """ddgan.py's, without R1 and without groups."""

    penalty: float = 0.0
    group: int = 1


if __name__ == "__main__":
    launch.main(build, Config())

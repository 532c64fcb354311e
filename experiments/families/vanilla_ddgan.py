"""The denoising diffusion GAN of ddgan.py without R1 penalty and without groups.

    python -m experiments.families.vanilla_ddgan --data 25gaussians --denoising-steps 4

It shows the effect of the denoising steps alone; vanilla_gan.py leaves out the same parts of gan.py.
"""

import dataclasses

from experiments.families import ddgan
from experiments.families.ddgan import build as build
from experiments.families.ddgan import evaluations as evaluations
from jaxscore import launch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ddgan.Config):
    """Flags of ddgan.py, with the defaults for no R1 penalty and no groups."""

    penalty: float = 0.0
    group: int = 1


if __name__ == "__main__":
    launch.main(build, Config())

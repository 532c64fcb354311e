"""The original generative adversarial network (Goodfellow et al. 2014).

    python -m experiments.families.vanilla_gan --data 25gaussians

It is gan.py without R1 penalty, and with a discriminator that sees one example at a time. It shows the modes
that a GAN drops without these two parts.
"""

import dataclasses

from experiments.families import gan
from experiments.families.gan import build as build
from experiments.families.gan import evaluations as evaluations
from jaxscore import launch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(gan.Config):
    """Flags of gan.py, with the defaults for no R1 penalty and no groups."""

    penalty: float = 0.0
    group: int = 1


if __name__ == "__main__":
    launch.main(build, Config())

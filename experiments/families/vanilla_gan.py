"""The generative adversarial network as it first was (Goodfellow et al. 2014): gan.py without its two aids.

    python -m experiments.families.vanilla_gan --data 25gaussians

No gradient penalty, and a discriminator that sees one example at a time: what modes it drops, gan.py's R1 and
minibatch deviation keep.
"""

import dataclasses

from experiments.families import gan
from experiments.families.gan import build as build
from experiments.families.gan import evaluations as evaluations
from jaxscore import launch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(gan.Config):
    """gan.py's, without R1 and without groups."""

    penalty: float = 0.0
    group: int = 1


if __name__ == "__main__":
    launch.main(build, Config())

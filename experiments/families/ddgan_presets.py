"""The published recipes of the denoising diffusion GAN: data, constants, and sizes of the networks.

The constants are from Xiao et al. 2022, appendix (tables 6 and 7); epochs are converted to steps of the
published batch. Sizes, channels, attention and latents are as published. The blocks of the networks are the
blocks of this library's U-Net and discriminator.
"""

from pathlib import Path
from typing import Any

from experiments.families.ddgan import Config
from experiments.families.family import Convolutions
from jaxscore.launch.config import Optimizer

SMALL, LARGE = (2, 4, 8, 8), (2, 4, 8, 8, 8, 8, 8)
"""Multiples of 64 channels in the discriminators: SMALL halves the sides three times, LARGE six times."""


def _published(name: str, *, rates: tuple[float, float], **changes: Any) -> Config:
    """The preset with the rates of generator and discriminator, and the constants common to all three."""
    adam = lambda rate: Optimizer(
        learning_rate=rate, warm_up=0, decay=1.0, fall="cosine", final=1e-5, b1=0.5, b2=0.9
    )
    shared = {
        "bounded": True,
        "shrink": False,
        "late": False,
        "flip": True,
        "latent": 100,
        "interval": 15,
        "group": 4,
    }
    shared |= {"discriminator_channels": 64, "optimizer": adam(rates[0])}
    shared |= {"discriminator_optimizer": adam(rates[1]), "workdir": Path("runs") / f"ddgan-{name}"}
    shared |= {"samples": 50_000, "sample_batch": 100, "log_every": 100, "save_every": 5000}
    return Config(preset=name, **shared | changes)


AT_256: dict[str, Any] = {
    "size": 256,
    "convolutions": Convolutions(channels=64, multipliers=(1, 1, 2, 2, 4, 4), blocks=2, attention=(4,)),
    "mapping": 3,
    "discriminator_multipliers": LARGE,
    "interval": 10,
}
"""What both recipes for images of 256 pixels have in common."""

PRESETS: dict[str, Config] = {
    "digits": Config(),
    "cifar10": _published(
        "cifar10",
        data="cifar10",
        rates=(1.6e-4, 1.25e-4),
        denoising_steps=4,
        convolutions=Convolutions(channels=128, multipliers=(1, 2, 2, 2), blocks=2, attention=(1,)),
        mapping=4,
        discriminator_multipliers=SMALL,
        penalty=0.02,
        batch=256,
        steps=351_562,  # 1,800 epochs of 50,000 images
        ema_decay=0.9999,
    ),
    "celeba_hq_256": _published(
        "celeba_hq_256",
        data="folder:celeba_hq_256",
        **AT_256,
        rates=(2e-4, 1e-4),
        denoising_steps=2,
        penalty=2.0,
        batch=32,
        steps=750_000,  # 800 epochs of 30,000 images
        ema_decay=0.9999,
    ),
    "lsun_church": _published(
        "lsun_church",
        data="lsun/church_outdoor",
        **AT_256,
        rates=(1.6e-4, 1e-4),
        denoising_steps=4,
        penalty=1.0,
        batch=64,
        steps=986_148,  # 500 epochs of 126,227 images
        ema_decay=0.999,
    ),
}
"""Recipes by name. `folder:celeba_hq_256` is a folder of the 30,000 images at 256 pixels or larger."""

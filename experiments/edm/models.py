"""The network that the flags describe."""

import flax.linen as nn
import jax.numpy as jnp

from experiments.edm.config import Config
from jaxscore import data
from jaxscore.networks import ADM, DDPM, EDM2, DiT, UNet

NCSNPP = {"embedding": "fourier", "noise_multiplier": 2, "encoder": "residual", "filter": (1, 3, 3, 1)}


def network_of(config: Config, classes: int) -> nn.Module:
    """Returns the network of --network, with this number of classes."""
    given = config.network
    shared = {"classes": classes, "dtype": jnp.dtype(config.precision), "remat": config.remat}
    shared["flash"] = given.flash
    if given.kind == "dit":
        return DiT(width=given.channels, depth=given.blocks, heads=given.heads, patch=given.patch, **shared)
    levels = ("channels", "multipliers", "blocks", "attention", "dropout")
    shared |= {name: getattr(given, name) for name in levels}
    if given.kind == "edm2":
        return EDM2(**shared)
    if given.kind == "ddpm":
        return DDPM(**shared)
    shared["augmentations"] = data.augment.LABELS if config.augment else 0
    if given.kind == "adm":
        return ADM(**shared)
    return UNet(**shared, patch=given.patch, **(NCSNPP if given.kind == "ncsnpp" else {}))

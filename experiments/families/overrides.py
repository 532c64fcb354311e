"""Changes of a family's flags by data set; the defaults are for digits.

Each of the 25 Gaussians is narrow: 0.018 of the standard deviation of all data. Dense networks therefore get
Fourier features (`octaves`). A discriminator gets one octave, and a weak penalty that lets it be as steep as
the Gaussians. On points a small network with more steps for the same budget does better than a large one.
"""

import importlib
from typing import Any

from experiments.families import adversaries
from jaxscore.launch.config import Config, Optimizer

IMAGES = "images"
"""Stands for any other data set: its images need convolutional networks, which need lower learning rates."""

SMALL = ("digits", "stacked_digits")
"""Data sets that the defaults are for."""

_SLOWER: dict[str, Any] = {"optimizer": Optimizer(learning_rate=5e-4, decay=0.7)}
_POINTS: dict[str, Any] = {"octaves": 5, "width": 128, "depth": 3}
_GAME: dict[str, Any] = {"octaves": 1, "width": 96, "discriminator_width": 96, "latent": 4, "batch": 64}
_STEEP: dict[str, Any] = {"penalty": 0.003}


def _rates(generator: float, discriminator: float | None = None) -> dict[str, Any]:
    rates = (generator, discriminator or generator)
    return dict(zip(("optimizer", "discriminator_optimizer"), map(adversaries.adam, rates), strict=True))


CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "25gaussians": {
        "gan": _GAME | _STEEP | {"interval": 4} | _rates(5e-4, 1e-3),
        "vanilla_gan": _GAME | {"interval": 4} | _rates(5e-4, 1e-3),
        "ddgan": _GAME | _STEEP | _rates(2e-3),
        "vanilla_ddgan": _GAME | _rates(2e-3),
        "ddpm": _POINTS | {"t_min": 1e-5},
        "edm": _POINTS | {"sigma_min": 0.002},
        "ncsn": _POINTS | {"sigma_min": 0.005},
        "consistency": _POINTS | {"sigma_min": 0.002},
        "distilled": _POINTS | {"sigma_min": 0.002},
        "reflow": _POINTS | {"sigma_min": 0.002},
        "vae": {"latent": 2, "floor": -6.0, "log_scale": -3.0},
        "flow": {"knots": 12, "batch": 512},
    },
    IMAGES: {
        "gan": _rates(2e-4),
        "vanilla_gan": _rates(2e-4),
        "ddgan": _rates(2e-4) | {"batch": 64, "group": 4, "penalty": 0.05, "interval": 15},
        "vanilla_ddgan": _rates(2e-4) | {"batch": 64},
        "ddpm": _SLOWER,
        "edm": _SLOWER,
        "ncsn": _SLOWER,
        "consistency": _SLOWER,
        "distilled": _SLOWER,
        "reflow": _SLOWER,
    },
}
"""Fields of a family's Config, by data set (or IMAGES) and family."""


def recipe(family: str, data: str) -> Config:
    """Returns the family's Config for the data set."""
    module = importlib.import_module(f"experiments.families.{family}")
    kind = data if data in (*CHANGES, *SMALL) else IMAGES
    return module.Config(data=data, **CHANGES.get(kind, {}).get(family, {}))

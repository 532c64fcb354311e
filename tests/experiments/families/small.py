"""Every family in a size that compiles in seconds."""

import importlib

import jax
import numpy as np

from experiments.families import setting as settings
from jaxscore import noise, samplers

SCORES = ("ddpm", "ncsn", "edm", "consistency", "reflow")

PLAYERS = {"discriminator_width": 8, "latent": 4}
FEW = {
    "gan": PLAYERS,
    "ddgan": PLAYERS | {"embedding": 8, "mapping": 1},
    "vanilla_ddgan": PLAYERS | {"embedding": 8, "mapping": 1},
    "vae": {"latent": 2, "probes": 2},
    "flow": {"layers": 2, "knots": 3, "probes": 2},
    "ddpm": {"ancestral_steps": 4, "ddim_steps": 3},
    "ncsn": {"levels": 4},
    "edm": {"levels": (3, 2)},
    "consistency": {"first_cells": 2, "last_cells": 4},
    "distilled": {"first_cells": 2, "last_cells": 4},
    "reflow": {"levels": 2, "copies": 2},
}


def module(name):
    return importlib.import_module(f"experiments.families.{name}")


def config(name, **changes):
    shared = {"steps": 2, "batch": 8, "width": 8, "depth": 1, "samples": 16, "data": "25gaussians"}
    return module(name).Config(**shared | FEW[name] | changes)


def scaled_samples(experiment, label, params):
    """4,000 samples of two numbers, in the scale in which the data have mean 0 and deviation 1."""
    (x,) = jax.jit(experiment.samplers[label])(params, noise.row_keys(jax.random.key(1), 4000)).values()
    return settings.of("25gaussians").scaled(np.asarray(x))


def images(side):
    """A data set of coloured images of so many pixels a side."""
    zeros = np.zeros((8, side, side, 3), np.float32)
    moments = samplers.Moments(np.zeros(zeros.shape[1:]), np.zeros(()))
    return settings.Setting("made", zeros, zeros[:2], np.zeros(8), zeros[:1], 0.3, 255, moments, ("made",))

"""Every family in a size that compiles in seconds."""

import importlib

NAMES = ("gan", "vae", "flow", "ddpm", "ncsn", "edm", "ddgan")
SCORES = ("ddpm", "ncsn", "edm")

FEW = {
    "gan": {"discriminator_width": 8, "latent": 4},
    "vanilla_gan": {"discriminator_width": 8, "latent": 4},
    "ddgan": {"discriminator_width": 8, "embedding": 8, "latent": 4, "mapping": 1},
    "vae": {"latent": 2, "probes": 2},
    "flow": {"layers": 2, "knots": 3, "probes": 2},
    "ddpm": {"ancestral_steps": 4, "ddim_steps": 3},
    "ncsn": {"levels": 4},
    "edm": {"levels": (3, 2)},
}


def module(name):
    return importlib.import_module(f"experiments.families.{name}")


def config(name, **changes):
    shared = {"steps": 2, "batch": 8, "width": 8, "depth": 1, "samples": 16, "data": "25gaussians"}
    return module(name).Config(**shared | FEW[name] | changes)

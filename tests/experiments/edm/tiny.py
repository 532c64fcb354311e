"""`experiments.edm` on images of 8x8 pixels in two classes, with the smallest U-Net."""

import dataclasses
from pathlib import Path

from experiments.edm.config import Config, Network, Sampling
from experiments.edm.presets import PRESETS
from tests.experiments.ncsn.tiny import write_images

NETWORK = Network(channels=4, multipliers=(1,), blocks=1, attention=())
SAMPLING = Sampling(solver="euler", levels=3, sigma_max=20.0)


def config(folder: Path, **changes) -> Config:
    """Four steps of training and three levels of sampling, in folder/run."""
    if "data" not in changes:
        changes["data"] = write_images(folder / "images.npz")
    small = {"network": NETWORK, "batch": 16, "steps": 4, "save_every": 2, "log_every": 2}
    small |= {"samples": 16, "sample_batch": 16, "sampling": SAMPLING, "workdir": folder / "run"}
    return dataclasses.replace(PRESETS["fashion"], **small | changes)

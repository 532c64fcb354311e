"""The flags of import_weights: those of the import, and those of the run that it makes."""

import dataclasses
from pathlib import Path

from experiments.ncsn import PRESETS
from jaxscore.launch import Config as BaseConfig
from jaxscore.launch import Optimizer
from jaxscore.launch.flags import Count, Levels, Positive, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Makes a run of published weights (--checkpoint), or samples, evaluates and trains such a run."""

    checkpoint: Path | None = None
    """File or folder of weights, to make a new run of; without it the run in --workdir is taken."""
    average: bool = True
    """Take the averaged parameters, if the file has both."""
    preset: str = "cifar10"
    """NCSN only: preset of `experiments.ncsn`, for the Langevin steps and the data set."""
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer(learning_rate=1e-4))
    batch: Count = 64
    samples: Count = 64
    sample_batch: Count = 64
    data: str | None = None
    """Images to evaluate with and to train on, such as cifar10 or npz:FILE; sampling needs none."""
    data_dir: Path | None = None
    """Folder of the data set."""
    size: Count | None = None
    """Side of the images; for data that are resized, and for files of weights that do not have it."""
    levels: Levels = 18
    """Noise levels of Heun's method; n levels cost 2 n - 1 evaluations."""
    label: int | None = None
    """Class of all samples; by default the classes take turns."""
    sigma_mean: float = -1.2
    """Mean of ln sigma in training (Karras et al. 2022, table 1)."""
    sigma_std: Positive = 1.2
    """Standard deviation of ln sigma in training."""

    def __post_init__(self):
        super().__post_init__()
        require(self.preset in PRESETS, "preset", self.preset, f"is not known; use {', '.join(PRESETS)}")
        if self.checkpoint is not None:
            require(self.checkpoint.exists(), "checkpoint", self.checkpoint, "is no file")
        elif self.mode != "sample":
            text = f"--mode {self.mode} needs images; name them, or give --mode sample, or --checkpoint"
            require(self.data is not None, "data", "", text)

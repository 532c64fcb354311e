"""The flags of the digits experiment; their defaults are the recipe."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from experiments.common.langevin import Langevin as Langevin
from jaxscore.launch import Config as BaseConfig
from jaxscore.launch import Optimizer
from jaxscore.launch.flags import Count, Fraction, Levels, Positive, check, require, require_sigmas


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heun:
    """Heun's method on the probability flow, over the levels of Karras et al. 2022 (rho = 7)."""

    levels: Levels = 9
    """Number of noise levels, each with one step; all steps but the last cost two evaluations."""
    sigma_min: Positive = 0.02
    """Smallest noise level before 0, in units of centred pixels (-1..1)."""
    sigma_max: float = 20.0
    """Largest noise level, where sampling starts."""

    def __post_init__(self):
        check(self, "heun.")
        require_sigmas(self.sigma_min, self.sigma_max, prefix="heun.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """A noise-conditional score network on small images, sampled by Heun's method and by Langevin."""

    workdir: Path = Path("runs/digits")
    steps: int = 2000
    batch: int = 256
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer(learning_rate=2e-3, decay=0.7))
    ema_decay: float = 0.988
    save_every: int = 500
    samples: Annotated[int, Meta(ge=4)] = 1797  # recall looks at 3 neighbours
    data: str = "digits"
    """Small images: `digits`, `fashion_mnist`, `npz:FILE`, `folder:PATH` or another name of `data.load`."""
    size: Count | None = None
    """Side of the images in pixels, for folders of pictures and data sets of photographs."""
    conditional: bool = False
    """Give the network the class of each image, or the arrays named by --conditions."""
    conditions: tuple[str, ...] = ()
    """Arrays of the npz file that are the condition, in place of the class."""
    p_uncond: Fraction = 0.1
    """Fraction of training examples whose condition is dropped."""
    guidance_scale: float = 1.0
    """Weight of classifier-free guidance: 0 is the unconditional score, 1 the conditional one."""
    label: int | None = None
    """Class of all samples; by default the classes take turns."""
    grey_values: Count = 16
    """Samples are rounded to multiples of 1 / grey_values before the metrics are computed."""
    classifiers: Count = 3
    """Number of classifiers with different seeds that judge the samples; the table shows the mean metrics."""
    width: Count = 512
    """Width of the network."""
    depth: Count = 4
    """Number of residual blocks of the network."""
    dropout: Fraction = 0.0
    """Fraction of hidden units dropped in training; against memorisation."""
    sigma_mean: float = -0.5
    """Mean of ln sigma in training; sigma in units of centred pixels (-1..1)."""
    sigma_std: Positive = 1.3
    """Standard deviation of ln sigma in training."""
    weight: Literal["edm", "likelihood"] = "edm"
    """Weight of the noise levels in the loss; likelihood is sigma^2 at levels uniform in ln sigma, between
    --heun.sigma-min and --heun.sigma-max."""
    dequantise: bool = False
    """Add uniform noise to the grey values in training, so that the images have a density."""
    held_out: Fraction = 0.0
    """Fraction of the images that are kept from the training, for experiments.likelihood."""
    heun: Heun = dataclasses.field(default_factory=Heun)
    langevin: Langevin = dataclasses.field(default_factory=Langevin)

    def __post_init__(self):
        super().__post_init__()
        if not self.conditional:
            needs = "needs --conditional"
            require(self.label is None, "label", self.label, needs)
            require(not self.conditions, "conditions", " ".join(self.conditions), needs)
            require(self.guidance_scale == 1, "guidance-scale", self.guidance_scale, needs)
            require(self.p_uncond == Config.p_uncond, "p-uncond", self.p_uncond, needs)
        both = "cannot be chosen with --conditions, which take the place of the classes"
        require(self.label is None or not self.conditions, "label", self.label, both)

"""Flags of `experiments.edm`; the recipes are in presets.py."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from jaxscore.launch.config import Config as BaseConfig
from jaxscore.launch.flags import (
    Count,
    Fraction,
    Levels,
    NonNegative,
    Positive,
    check,
    require,
    require_sigmas,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """The network and its size."""

    kind: Literal["ddpmpp", "ncsnpp", "adm", "edm2", "dit", "ddpm"] = "ddpmpp"
    """Architecture: the U-Nets DDPM++, NCSN++, ADM, EDM2 and DDPM, or the transformer DiT."""
    channels: Count = 128
    """Channels of the first level, or the unit of the channels; for dit the width of a token."""
    multipliers: tuple[Count, ...] = (2, 2, 2)
    """Channels of each level in units of --network.channels; not for dit."""
    blocks: Count = 4
    """Residual blocks of each level, or the number of blocks of dit."""
    attention: tuple[Annotated[int, Meta(ge=0)], ...] = (1,)
    """Levels whose blocks attend over all positions; 0 is the first. Not for dit."""
    heads: Count = 6
    """Attention heads, for dit only."""
    patch: Count = 1
    """Side of the blocks of pixels that are one position of the network, for ddpmpp, ncsnpp and dit."""
    dropout: Fraction = 0.0
    """Fraction of hidden units dropped in training; not for dit."""
    flash: bool = False
    """Attention by the kernels of cuDNN, on NVIDIA GPUs with --precision bfloat16."""

    def __post_init__(self):
        check(self, "network.")
        dit, levels, attention = self.kind == "dit", len(self.multipliers), " ".join(map(str, self.attention))
        only = f"has no effect on {self.kind}; give"
        for fine, name, value, remedy in (
            (self.multipliers, "multipliers", self.multipliers, "needs a number for each level"),
            (self.patch == 1 or self.kind in ("ddpmpp", "ncsnpp", "dit"), "patch", self.patch, f"{only} 1"),
            (self.dropout == 0 or not dit, "dropout", self.dropout, f"{only} 0"),
            (
                self.channels % self.heads == 0 or not dit,
                "heads",
                self.heads,
                f"must divide --network.channels {self.channels}",
            ),
            (
                dit or all(i < levels for i in self.attention),
                "attention",
                attention,
                f"must be levels 0 to {levels - 1}",
            ),
        ):
            require(fine, f"network.{name}", value, remedy)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """The sampler: the levels of Karras et al. 2022 (rho = 7), a solver, and guidance."""

    solver: Literal["heun", "dpm_solver_pp", "unipc", "deis", "euler"] = "heun"
    """heun costs two evaluations at each level but the last; the others cost one."""
    levels: Levels = 18
    """Number of noise levels, each with one step."""
    sigma_min: Positive = 0.002
    """Smallest noise level before 0, in units of data in -1..1."""
    sigma_max: float = 80.0
    """Largest noise level, where sampling starts."""
    churn: NonNegative = 0.0
    """S_churn of Karras et al. 2022: how much noise is added again; 0 for none."""
    churn_min: NonNegative = 0.05
    """S_min: noise is added at this level and above."""
    churn_max: NonNegative = 50.0
    """S_max: noise is added at this level and below."""
    churn_noise: Positive = 1.003
    """S_noise: standard deviation of the added noise, in units of what keeps the level."""
    scale: float = 1.0
    """Weight of guidance: 1 for the conditional score alone."""
    interval: tuple[float, float] | None = None
    """Noise levels, low and high, between which the score is guided; everywhere by default."""
    guide: Path | None = None
    """Folder of a run of this experiment whose model guides, with the same classes: autoguidance (Karras et
    al. 2024b). It is a smaller or less trained model. By default the model without classes guides."""
    guide_step: Count | None = None
    """Step of the guide's checkpoint, such as one that --keep-every has kept; the newest by default."""
    label: int | None = None
    """Class of all samples; by default the classes take turns."""

    def __post_init__(self):
        check(self, "sampling.")
        require_sigmas(self.sigma_min, self.sigma_max, prefix="sampling.")
        (low, high), guided = self.interval or (0.0, 1.0), self.guide is not None
        for fine, name, value, remedy in (
            (self.scale != 1 or not guided, "guide", self.guide, "has no effect with --sampling.scale 1"),
            (guided or self.guide_step is None, "guide-step", self.guide_step, "needs --sampling.guide"),
            (0 <= low < high, "interval", f"{low} {high}", "must be LOW HIGH with 0 <= LOW < HIGH"),
        ):
            require(fine, f"sampling.{name}", value, remedy)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """EDM's training and sampling with the networks of the field; the preset sets the other defaults."""

    preset: str = "fashion"
    """Recipe with the defaults of the other flags; an unknown name lists the known ones."""
    workdir: Path = Path("runs/edm")
    data: str = "fashion_mnist"
    """Data set; an unknown name lists the known ones."""
    data_dir: Path | None = None
    """Folder of the data set, if it is not in its usual place."""
    size: Count | None = None
    """Side of the images in pixels, for folders of pictures and data sets of photographs."""
    shape: tuple[Count, Count, Count] = (28, 28, 1)
    """Height, width and channels of an image, for --mode sample if the data are absent."""
    conditional: bool = True
    """Give the network the class of each image."""
    classes: Annotated[int, Meta(ge=0)] = 0
    """Number of classes; 0 for as many as the data have."""
    p_uncond: Fraction = 0.0
    """Fraction of training examples whose class is dropped, for classifier-free guidance."""
    augment: Fraction = 0.0
    """Probability of each geometric augmentation, whose labels the network is given; 0 for none."""
    flip: bool = False
    """Mirror each training image with probability 1/2."""
    network: Network = dataclasses.field(default_factory=Network)
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the network's computations; parameters are float32."""
    weight: Literal["edm", "uniform", "min_snr", "soft_min_snr", "sigmoid", "likelihood", "uncertainty"] = (
        "edm"
    )
    """Weight of the loss by noise level; uniform is that of the noise prediction, uncertainty is learnt."""
    sigma_data: Positive = 0.5
    """Standard deviation of the data in units of -1..1, for the preconditioning."""
    sigma_mean: float = -1.2
    """Mean of ln sigma in training; --weight likelihood draws sigma evenly in its logarithm instead."""
    sigma_std: Positive = 1.2
    """Standard deviation of ln sigma in training."""
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    grey_values: Count = 255
    """Samples are rounded to multiples of 1 / grey_values before the metrics are computed."""
    classifiers: Count = 1
    """Number of classifiers with different seeds that give features; the table shows the mean metrics."""
    reference: Annotated[int, Meta(ge=4)] = 10_000  # recall looks at 3 neighbours
    """Maximum number of images that samples are compared with: test images, if the data have any."""

    def __post_init__(self):
        super().__post_init__()
        kind, given, needs = self.network.kind, self.sampling, "needs --conditional"
        can = self.p_uncond > 0 or given.guide is not None
        pixels = not self.data.startswith("latents:")
        labelled = kind in ("ddpmpp", "ncsnpp", "adm")
        averaged = kind == "edm2" and self.optimizer.kind == "schedule-free"
        for fine, name, value, remedy in (
            (self.samples >= 4, "samples", self.samples, "must be at least 4, for recall"),
            (self.conditional or self.p_uncond == 0, "p-uncond", self.p_uncond, needs),
            (self.conditional or self.classes == 0, "classes", self.classes, needs),
            (self.conditional or given.label is None, "sampling.label", given.label, needs),
            (
                given.scale == 1 or can,
                "sampling.scale",
                given.scale,
                "needs training with --conditional and --p-uncond 0.1, or --sampling.guide",
            ),
            (
                pixels or self.augment == 0,
                "augment",
                self.augment,
                "moves images, and latents are none; give 0",
            ),
            (
                pixels or not self.flip,
                "flip",
                self.flip,
                "mirrors images, and latents are none; give --no-flip",
            ),
            (
                labelled or self.augment == 0,
                "augment",
                self.augment,
                f"has no effect on --network.kind {kind}; give 0",
            ),
            (
                not averaged,
                "optimizer.kind",
                self.optimizer.kind,
                "averages kernels, whose norm --network.kind edm2 keeps; use another",
            ),
        ):
            require(fine, name, value, remedy)

"""Flags of `experiments.restore`, and the problems by their names."""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

from experiments.common.langevin import Langevin
from jaxscore import keys
from jaxscore.inverse import operators
from jaxscore.inverse.operators import Operator
from jaxscore.keys import Stream
from jaxscore.launch.flags import Count, Levels, NonNegative, Positive, Seed, check, require

PROBLEMS = (
    "inpaint",
    "super_resolution",
    "deblur",
    "mri",
    "tomography",
    "grey",
    "projection",
    "phase_retrieval",
)
"""Names of the problems; see `operator`."""

METHODS = (
    "pseudo_inverse",
    "gaussian",
    "pigdm",
    "diffpir",
    "ddnm",
    "decoupled",
    "dps",
    "replacement",
    "repaint",
    "particles",
)
"""Names of the methods, in the order of the table; see methods.py."""

SEVERAL = ("gaussian", "pigdm", "diffpir", "decoupled", "dps", "particles")
"""Methods that run by default if the problem allows them, beside the pseudo-inverse."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Images from measurements of them: several draws of each, and whether the truth lies among them."""

    run: Path = Path("runs/edm-fashion")
    """Folder of a trained run of images whose experiment says what its score is."""
    experiment: str | None = None
    """Module with the run's `build` and its configuration; experiments.NAME if it is not given."""
    workdir: Path = Path("runs/restore-super_resolution")
    """Folder for restore.json, restore.png and restored.npz; each problem has one of its own by default."""
    problem: Literal[PROBLEMS] = "super_resolution"
    """What is measured of each image."""
    known: Literal["left", "right", "top", "bottom"] = "left"
    """The half that inpaint keeps."""
    factor: Count = 4
    """Side of the blocks whose means super_resolution keeps."""
    blur: Positive = 2.0
    """Standard deviation of the kernel of deblur, in pixels."""
    fraction: Positive = 0.25
    """Fraction of the numbers of an image that mri and projection measure."""
    angles: Count = 10
    """Number of angles of tomography, over 180 degrees."""
    noise: NonNegative = 0.05
    """Standard deviation of the noise of the measurement, for images in 0..1."""
    methods: tuple[str, ...] = ()
    """Methods to compare: pseudo_inverse, gaussian, pigdm, diffpir, ddnm, decoupled, dps, replacement,
    repaint, particles. By default those that fit the problem, except ddnm, replacement and repaint, which
    take the measurement as free of noise."""
    images: Count = 16
    """Number of images."""
    samples: Levels = 16
    """Draws of each method for each image; also the number of particles."""
    levels: Levels = 30
    """Noise levels of the samplers."""
    sigma_min: Positive | None = None
    """Smallest noise level, in the units of the score; that of the run's own sampler by default."""
    sigma_max: Positive | None = None
    """Largest noise level; that of the run's own sampler by default."""
    dps_scale: Positive = 1.0
    """Length of the step of dps."""
    diffpir_weight: Positive = 1.0
    """Weight of the prior in diffpir."""
    batch: Count = 64
    """Draws that are computed together."""
    seed: Seed = 0
    """Seed of all random numbers, and of the choice of images."""
    langevin: Langevin = dataclasses.field(default_factory=lambda: Langevin(sigma_min=0.05, sigma_max=10.0))
    """The dynamics of replacement for runs other than those of experiments.ncsn, which have their own."""

    def __post_init__(self):
        check(self)
        require(self.fraction <= 1, "fraction", self.fraction, "must be at most 1")
        for name in self.methods:
            require(name in METHODS, "methods", name, f"must be among {', '.join(METHODS)}")
            require(fits(name, self), "methods", name, why_not(name, self))

    @property
    def chosen(self) -> tuple[str, ...]:
        """The methods in the order of the table."""
        defaults = ("pseudo_inverse", *SEVERAL)
        return tuple(name for name in METHODS if name in (self.methods or defaults) and fits(name, self))


def fits(method: str, config: Config) -> bool:
    """Whether the method can solve the problem."""
    return not why_not(method, config)


def why_not(method: str, config: Config) -> str:
    """Returns why the method cannot solve the problem, or ''."""
    if config.problem == "phase_retrieval" and method not in ("dps", "particles"):
        return "needs a linear measurement, and --problem phase_retrieval has none; give dps or particles"
    if method == "particles" and config.noise == 0:
        return "needs a --noise above 0"
    if method in ("replacement", "repaint") and config.problem != "inpaint":
        return "needs known pixels: --problem inpaint"
    return ""


def half(known: str, event: tuple[int, ...]) -> np.ndarray:
    """Returns the mask of an event [h, w, c]: true where pixels are known."""
    axis = 0 if known in ("top", "bottom") else 1
    first = np.arange(event[axis]) < event[axis] // 2
    line = first if known in ("top", "left") else ~first
    return np.broadcast_to(line.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1)), event)


def low_frequencies(config: Config, event: tuple[int, ...]) -> np.ndarray:
    """Returns the measured columns [h, w] of mri: a third in the middle, and others at random."""
    h, w, _ = event
    count = max(1, round(config.fraction * w))
    middle = w // 2 - count // 6 + np.arange(max(1, count // 3))
    others = np.random.default_rng(config.seed).permutation(np.setdiff1d(np.arange(w), middle))
    columns = np.concatenate([middle, others[: count - len(middle)]])
    return np.broadcast_to(np.isin(np.arange(w), columns)[None], (h, w))


def operator(config: Config, event: tuple[int, ...]) -> Operator:
    """Returns the measurement of images [h, w, c]. Raises FlagError if it does not fit them."""
    h, w, c = event
    both = f"must divide the sides of the images, {h} and {w}"
    if config.problem == "super_resolution":
        require(h % config.factor == 0 and w % config.factor == 0, "factor", config.factor, both)
        return operators.downsample(config.factor)
    if config.problem == "deblur":
        require(config.blur <= max(h, w), "blur", config.blur, f"is wider than the images, {h} x {w}")
        kernel = operators.gaussian_kernel(config.blur)
        remedy = f"its kernel of {len(kernel)} pixels must fit into the images, {h} x {w}"
        require(len(kernel) <= min(h, w), "blur", config.blur, remedy)
        return operators.blur(kernel)
    if config.problem == "inpaint":
        return operators.mask(half(config.known, event))
    if config.problem == "grey":
        require(c == 3, "problem", "grey", f"needs images with 3 channels, not {c}")
        return operators.grey()
    if config.problem == "mri":
        require(c == 1, "problem", "mri", f"needs images with 1 channel, not {c}")
        return operators.fourier(low_frequencies(config, event))
    if config.problem == "tomography":
        return operators.radon(np.arange(config.angles) * 180.0 / config.angles, event)
    if config.problem == "projection":
        count = max(1, round(config.fraction * h * w * c))
        return operators.random_projection(keys.stream(config.seed, Stream.DATA), count, event)
    return operators.phase_retrieval()

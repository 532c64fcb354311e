"""Flags of `experiments.ncsn`, and its recipes: the published ones, and two for small machines.

The constants are from Song & Ermon 2019 (section 5, appendix B) and 2020 (table 4, appendix B). The papers
do not give iterations, batch and Adam's epsilon; these are from the authors' configuration files.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from jaxscore import calibrate
from jaxscore.launch.config import Config as BaseConfig
from jaxscore.launch.config import Optimizer
from jaxscore.launch.flags import Count, Levels, Positive, require, require_sigmas


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """NCSN or NCSNv2, and annealed Langevin dynamics; the preset sets the defaults of the flags."""

    preset: str = "fashion"
    """Recipe with the defaults of the other flags; an unknown name lists the known ones."""
    workdir: Path = Path("runs/ncsn")
    data: str = "fashion_mnist"
    """Data set; an unknown name lists the known ones."""
    data_dir: Path | None = None
    """Folder of the data set, if it is not in its usual place."""
    size: Count | None = None
    """Side of the images in pixels, for data sets of photographs."""
    shape: tuple[Count, Count, Count] = (28, 28, 1)
    """Height, width and channels of an image, for --mode sample if the data are absent."""
    network: Literal["ncsn", "ncsnv2"] = "ncsnv2"
    """ncsn has parameters for each noise level in its norms; ncsnv2 ignores the level, divides by sigma."""
    channels: Count = 128
    """Number of channels in the first stage of the network."""
    stages: Literal["compact", "small", "deeper", "deepest"] = "small"
    """Depth, for images up to 64 (small), 128 (deeper) or 256 pixels (deepest); compact is small, but
    halves the images once more."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the network's computations; parameters are float32."""
    sigma_max: float = 50.0
    """Largest noise level, sigma_1, for pixels in 0..1."""
    sigma_min: Positive = 0.01
    """Smallest noise level, sigma_L, for pixels in 0..1."""
    levels: Levels = 232
    """Number of noise levels, L, in geometric progression."""
    langevin_steps: Count = 5
    """Number of Langevin steps at each level, T."""
    epsilon: Positive = 6.2e-6
    """Langevin step at sigma_L; at level l it is epsilon (sigma_l / sigma_L)^2."""
    start: Literal["uniform", "normal"] = "uniform"
    """Start of sampling: pixels uniform in 0..1, as published, or Gaussian with the mean and covariance of
    the noisy data at sigma_1."""
    flip: bool = True
    """Mirror each training image with probability 1/2."""
    grey_values: Count = 255
    """Samples are rounded to multiples of 1 / grey_values before the metrics are computed."""
    classifiers: Count = 1
    """Number of classifiers with different seeds that give features; the table shows the mean metrics."""
    reference: Annotated[int, Meta(ge=4)] = 10_000  # recall looks at 3 neighbours
    """Maximum number of images that samples are compared with."""
    ablate: bool = False
    """Train NCSN, and again with one more of NCSNv2's five techniques each time."""

    def __post_init__(self):
        super().__post_init__()
        require_sigmas(self.sigma_min, self.sigma_max)
        require(self.samples >= 4, "samples", self.samples, "must be at least 4, for recall")
        limit = 2 * self.sigma_min**2
        remedy = f"must be below 2 sigma-min^2 = {limit:.3g}, from where on Langevin dynamics diverges"
        require(self.epsilon < limit, "epsilon", self.epsilon, remedy)


ADAM = Optimizer(learning_rate=1e-4, warm_up=0, decay=0.0, b2=0.999)
PUBLISHED = Config(optimizer=ADAM, batch=128, log_every=100, save_every=5000, sample_batch=100)


def _published(name: str, **changes) -> Config:
    """Returns the preset with the noise levels and the Langevin steps of the paper."""
    recipe = calibrate.PRESETS[name]
    return dataclasses.replace(
        PUBLISHED,
        preset=name,
        workdir=Path("runs") / f"ncsn-{name}",
        shape=recipe.shape,
        sigma_max=recipe.sigma_max,
        sigma_min=recipe.sigma_min,
        levels=recipe.levels,
        langevin_steps=recipe.steps,
        epsilon=recipe.epsilon,
        **changes,
    )


FIRST = {
    "network": "ncsn",
    "steps": 200_000,
    "optimizer": dataclasses.replace(ADAM, learning_rate=1e-3),
    "ema_decay": 0.0,
}
"""Network and training of Song & Ermon 2019, which did not average the parameters."""

PRESETS: dict[str, Config] = {
    # The recipe that `experiments.calibrate --data digits` prints.
    "digits": dataclasses.replace(
        PUBLISHED,
        preset="digits",
        workdir=Path("runs/ncsn-digits"),
        data="digits",
        shape=(8, 8, 1),
        grey_values=16,
        classifiers=3,
        channels=24,
        sigma_max=4.815,
        levels=22,
        langevin_steps=5,
        epsilon=2.35e-5,
        steps=1500,
        batch=64,
        optimizer=Optimizer(learning_rate=1.5e-3),
        ema_decay=0.99,
        flip=False,
        samples=1000,
        sample_batch=500,
        save_every=500,
        ablate=True,
    ),
    # `experiments.calibrate --data fashion_mnist` prints these levels. Two long steps at each level follow
    # them: their `calibrate.pace` is 0.6.
    "fashion": dataclasses.replace(
        PUBLISHED,
        preset="fashion",
        workdir=Path("runs/ncsn-fashion"),
        channels=16,
        stages="compact",
        sigma_max=22.46,
        levels=105,
        langevin_steps=2,
        epsilon=3e-5,
        steps=6000,
        batch=32,
        optimizer=Optimizer(learning_rate=1e-3),
        ema_decay=0.999,
        samples=1000,
        sample_batch=250,
        save_every=1000,
    ),
    "mnist": _published("mnist", data="mnist", channels=64, flip=False, **FIRST),
    "ncsn_v1": _published("ncsn_v1", data="cifar10", channels=128, **FIRST),
    "cifar10": _published("cifar10", data="cifar10", steps=300_000),
    "celeb_a": _published("celeb_a", data="celeb_a", steps=210_000),
    "lsun_church": _published("lsun_church", data="lsun/church_outdoor", stages="deeper", steps=200_000),
    "lsun_bedroom": _published("lsun_bedroom", data="lsun/bedroom", stages="deeper", steps=150_000),
    "lsun_tower": _published("lsun_tower", data="lsun/tower", stages="deeper", steps=150_000),
    "ffhq": _published(
        "ffhq",
        data="folder:ffhq256",
        size=256,
        stages="deepest",
        steps=80_000,
        batch=32,
        optimizer=dataclasses.replace(ADAM, epsilon=1e-3),
    ),
}
"""Recipes by name. `folder:ffhq256` is a folder of the 70,000 images at 256 pixels or larger."""

"""Recipes for annealed Langevin dynamics: calculated for a data set (`recipe`) or published (`PRESETS`).

>>> PRESETS["ffhq"].dimension, round(PRESETS["ffhq"].ratio, 4)
(196608, 1.0045)
"""

import math
from typing import NamedTuple

from jaxscore.calibrate.levels import OVERLAP, level_count, step_size


class Recipe(NamedTuple):
    """Annealed Langevin dynamics: geometric noise levels, and `steps` Langevin steps at each.

    The step size at level sigma is epsilon sigma^2 / sigma_min^2: `samplers.annealed(epsilon, sigma_min)`.
    """

    shape: tuple[int, ...]
    """Shape of an example, [h, w, c] for images."""
    sigma_max: float
    sigma_min: float
    levels: int
    steps: int
    epsilon: float
    source: str = "calibrate.recipe"

    @property
    def dimension(self) -> int:
        """Numbers in an example, D."""
        return math.prod(self.shape)

    @property
    def ratio(self) -> float:
        """Ratio of neighbouring levels, gamma = sigma_{i-1} / sigma_i."""
        return (self.sigma_max / self.sigma_min) ** (1 / (self.levels - 1))


_V1, _V2 = "Song & Ermon 2019, section 5", "Song & Ermon 2020, table 4"

PRESETS: dict[str, Recipe] = {
    "mnist": Recipe((28, 28, 1), 1.0, 0.01, 10, 100, 2e-5, _V1),
    "ncsn_v1": Recipe((32, 32, 3), 1.0, 0.01, 10, 100, 2e-5, _V1),
    "cifar10": Recipe((32, 32, 3), 50.0, 0.01, 232, 5, 6.2e-6, _V2),
    "celeb_a": Recipe((64, 64, 3), 90.0, 0.01, 500, 5, 3.3e-6, _V2),
    "lsun_church": Recipe((96, 96, 3), 140.0, 0.01, 788, 4, 4.9e-6, _V2),
    "lsun_bedroom": Recipe((128, 128, 3), 190.0, 0.01, 1086, 3, 1.8e-6, _V2),
    "lsun_tower": Recipe((128, 128, 3), 190.0, 0.01, 1086, 3, 1.8e-6, _V2),
    "ffhq": Recipe((256, 256, 3), 348.0, 0.01, 2311, 3, 9e-7, _V2),
}
"""Published recipes, for pixels in 0..1. Technique 4 reproduces their epsilons, except for lsun_church (it
gives 2.3e-6) and for the two recipes of NCSN, which are older than the technique."""


def recipe(
    shape: tuple[int, ...],
    sigma_max: float,
    *,
    sigma_min: float = 0.01,
    overlap: float = OVERLAP,
    steps: int = 5,
    levels: int | None = None,
) -> Recipe:
    """Recipe for examples of this shape: the number of levels and the step size follow from the arguments.

    Args:
        shape: shape of an example.
        sigma_max: largest noise level, such as `largest_distance` of the data.
        sigma_min: smallest noise level.
        overlap: overlap of neighbouring levels, from which the number of levels follows.
        steps: Langevin steps at each level.
        levels: number of levels; if given, `overlap` is not used.

    Raises:
        ValueError: if levels < 2, and as `level_count` and `step_size` do.
    """
    if levels is None:
        levels = level_count(sigma_min, sigma_max, math.prod(shape), overlap)
    elif levels < 2:
        raise ValueError(f"levels = {levels}: at least 2 are needed")
    made = Recipe(tuple(shape), sigma_max, sigma_min, levels, steps, 0.0)
    return made._replace(epsilon=step_size(sigma_min, made.ratio, steps))

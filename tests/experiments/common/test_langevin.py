"""Levels in geometric progression, and T steps at each."""

import numpy as np

from experiments.common.langevin import Langevin
from jaxscore import samplers


def test_levels_are_geometric_and_steps_are_repeated():
    recipe = Langevin(levels=4, steps=3, sigma_min=0.1, sigma_max=0.8)
    np.testing.assert_allclose(recipe.sigma_grid(), [0.8, 0.4, 0.2, 0.1, 0.0], rtol=1e-6)
    assert samplers.evaluations(recipe.sampler(), 4) == 12

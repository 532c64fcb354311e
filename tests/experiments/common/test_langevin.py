"""Levels in geometric progression, and T steps at each."""

import numpy as np
import pytest

from experiments.common.langevin import Langevin, advise
from jaxscore import samplers


def test_levels_are_geometric_and_steps_are_repeated():
    recipe = Langevin(levels=4, steps=3, sigma_min=0.1, sigma_max=0.8)
    np.testing.assert_allclose(recipe.sigma_grid(), [0.8, 0.4, 0.2, 0.1, 0.0], rtol=1e-6)
    assert samplers.evaluations(recipe.sampler(), 4) == 12


@pytest.mark.parametrize(("levels", "said"), [(60, False), (10, True)])
def test_levels_that_fall_too_fast_are_a_warning(capsys, levels, said):
    """The pace of 60 levels is 0.65, that of 10 levels is 6.5."""
    advise(0.1, 0.01, 30.0, levels, 10)
    assert ("warning: the pace of annealed Langevin dynamics is" in capsys.readouterr().out) == said

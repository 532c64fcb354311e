"""Flags that are checked, levels in geometric progression, and T steps at each."""

import numpy as np
import pytest

from experiments.common.langevin import Langevin
from jaxscore import samplers
from jaxscore.launch.flags import FlagError


def test_levels_are_geometric_and_steps_are_repeated():
    recipe = Langevin(levels=4, steps=3, sigma_min=0.1, sigma_max=0.8)
    np.testing.assert_allclose(recipe.sigma_grid(), [0.8, 0.4, 0.2, 0.1, 0.0], rtol=1e-6)
    assert samplers.evaluations(recipe.sampler(), 4) == 12


@pytest.mark.parametrize("changes", [{"levels": 1}, {"steps": 0}, {"step_size": 2.0}, {"sigma_max": 0.01}])
def test_impossible_values_are_refused(changes):
    (name,) = changes
    with pytest.raises(FlagError, match=f"^--langevin.{name.replace('_', '-')} "):
        Langevin(**changes)

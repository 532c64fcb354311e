"""The flags of digits that depend on each other."""

import pytest

from experiments.digits.config import Config
from jaxscore.launch.flags import FlagError


def test_conditions_take_the_place_of_the_classes():
    Config(conditional=True, label=3, guidance_scale=2.0)
    Config(conditional=True, conditions=("age",))
    said = "^--label 3: cannot be chosen with --conditions, which take the place of the classes$"
    with pytest.raises(FlagError, match=said):
        Config(conditional=True, label=3, conditions=("age",))

"""The flags of digits that depend on each other."""

import pytest

from experiments.digits.config import Config
from jaxscore.launch.flags import FlagError


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label": 3}, "--label 3: needs --conditional"),
        ({"conditions": ("age", "sex")}, "--conditions age sex: needs --conditional"),
        ({"p_uncond": 0.5}, "--p-uncond 0.5: needs --conditional"),
        ({"guidance_scale": 2.0}, "--guidance-scale 2.0: needs --conditional"),
        (
            {"conditional": True, "label": 3, "conditions": ("age",)},
            "--label 3: cannot be chosen with --conditions, which take the place of the classes",
        ),
    ],
)
def test_flags_of_conditions_are_refused_without_them(changes, said):
    with pytest.raises(FlagError) as caught:
        Config(**changes)
    assert str(caught.value) == said


def test_conditions_are_taken_together():
    assert Config(conditional=True, label=3, guidance_scale=2.0).label == 3
    assert Config(conditional=True, conditions=("age",)).conditions == ("age",)

import pytest

from experiments.likelihood import Config
from jaxscore.launch.flags import FlagError


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sigma_min": 30.0}, "--sigma-max 20.0: must exceed --sigma-min 30.0"),
        ({"probes": 0}, "--probes 0: must be at least 1"),
        ({"tolerance": 0.0}, "--tolerance 0.0: must be above 0"),
    ],
)
def test_bad_flags_are_refused(given, said):
    with pytest.raises(FlagError, match=said):
        Config(**given)

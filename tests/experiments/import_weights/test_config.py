from pathlib import Path

import pytest

from experiments.import_weights import Config
from jaxscore.launch import flags
from jaxscore.launch.flags import FlagError


def test_without_images_a_run_can_only_be_sampled():
    assert Config(workdir=Path("run"), mode="sample").data is None
    with pytest.raises(
        FlagError, match="--data: --mode all needs images; name them, or give --mode sample, or --ch"
    ):
        Config(workdir=Path("run"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--workdir run --checkpoint absent.pth", "--checkpoint absent.pth: is no file"),
        ("--workdir run --mode sample --preset imagenet", "--preset imagenet: is not known; use digits, "),
        ("--workdir run --mode sample --levels 1", "--levels 1: must be at least 2"),
        ("--mode sample", "missing: --workdir"),
    ],
)
def test_invalid_flags_are_named(words, said):
    with pytest.raises(FlagError) as caught:
        flags.parse(Config, words.split())
    assert said in str(caught.value)

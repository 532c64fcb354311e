import dataclasses

import pytest

from experiments.edm.config import Config, Network
from experiments.edm.models import network_of
from jaxscore.networks import ADM, DDPM, EDM2, DiT, UNet

KINDS = {"ddpmpp": UNet, "ncsnpp": UNet, "adm": ADM, "edm2": EDM2, "ddpm": DDPM, "dit": DiT}


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_is_as_the_flags_say(kind):
    given = Network(kind=kind, channels=24, multipliers=(1, 3), blocks=2, attention=(0,))
    found = network_of(Config(network=given, remat=True, precision="bfloat16"), 7)
    assert type(found) is KINDS[kind]
    assert (found.classes, found.remat, found.dtype.name) == (7, True, "bfloat16")
    if kind == "dit":
        assert (found.width, found.depth, found.heads) == (24, 2, 6)
    else:
        assert (found.channels, found.multipliers, found.blocks, found.attention) == (24, (1, 3), 2, (0,))


def test_only_ncsnpp_has_filters_and_waves():
    plain, filtered = (network_of(Config(network=Network(kind=kind)), 0) for kind in ("ddpmpp", "ncsnpp"))
    assert (plain.embedding, plain.filter, plain.encoder) == ("positional", (1, 1), "standard")
    assert (filtered.embedding, filtered.filter, filtered.encoder) == ("fourier", (1, 3, 3, 1), "residual")


def test_with_augmentation_the_network_takes_its_labels():
    config = Config(augment=0.1)
    assert network_of(config, 0).augmentations == 9
    assert network_of(dataclasses.replace(config, augment=0.0), 0).augmentations == 0

"""DDPM; tests/networks/test_parity.py holds it against the published network."""

import functools

import pytest

from jaxscore.networks import DDPM
from tests.networks import contract

make = functools.partial(DDPM, channels=4, multipliers=(1, 2), blocks=1, attention=(1,))


@pytest.mark.parametrize("check", ["bfloat16", "no coupling"])
def test_keeps_the_promises_of_a_network(check):
    contract.CHECKS[check](make, (4, 6, 2))


@pytest.mark.parametrize("event", [(5, 3), (2, 3, 4, 1)])
def test_sequences_and_volumes_come_back_in_their_shape(event):
    contract.check_shape_and_zero_start(make(), event)

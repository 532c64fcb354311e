"""The meshes on which the metrics of neighbours are computed."""

import jax
import pytest

from jaxscore import sharding

MESHES = {
    "no mesh": lambda: None,
    "one device": lambda: sharding.mesh(devices=jax.devices()[:1]),
    "eight": sharding.mesh,
    "two by four": lambda: sharding.mesh(fsdp=4),
}


@pytest.fixture(params=MESHES)
def mesh(request):
    return MESHES[request.param]()

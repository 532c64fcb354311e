"""Whose weights a file holds is recognised by its content, whatever its name."""

import shutil

import jax
import numpy as np
import pytest

from jaxscore import importers
from jaxscore.importers import families, pickles, safetensors
from jaxscore.networks import MLP
from tests.importers.files import PUBLISHED, zipped

pytest.importorskip("safetensors")
FAMILIES = {
    "edm_snapshot.pkl": "edm",
    "edm2_snapshot-0002048-0.100.pkl": "edm",
    "score_sde_ncsnpp_ve.pth": "score_sde",
    "score_sde_ddpmpp_vp.pth": "score_sde",
    "diffusers_dit": "diffusers",
    "diffusers_dit/config.json": "diffusers",
    "diffusers_dit/diffusion_pytorch_model.safetensors": "diffusers",
}


@pytest.mark.parametrize("name", FAMILIES)
def test_published_files_are_recognised(name):
    assert importers.recognise(PUBLISHED / name).family == FAMILIES[name]


def test_a_name_does_not_matter(tmp_path):
    shutil.copy(PUBLISHED / "edm_snapshot.pkl", tmp_path / "weights.pth")
    description, _ = importers.read(tmp_path / "weights.pth")
    assert description.network == "UNet"


def test_weights_of_this_library_are_recognised(tmp_path):
    network = MLP(width=8, depth=1)
    description = importers.describe(network, "edm", (2,), sigma_data=1.0)
    safetensors.save(tmp_path, description, importers.initial(network, (2,))(jax.random.key(0)))
    assert importers.recognise(tmp_path).family == "safetensors"
    assert importers.read(tmp_path)[0] == description


NCSN = {"module.begin_conv.weight": np.zeros((2, 1, 3, 3), np.float32)}


def test_ncsn_is_recognised_and_needs_its_network(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(zipped([NCSN, {"state": {}}, 3, {"begin_conv.weight": np.ones(2, np.float32)}]))
    found = importers.recognise(path)
    assert found.family == "ncsn"
    first, last = families.state_dicts(found.content)
    assert pickles.array(first["begin_conv.weight"]).shape == (2, 1, 3, 3)
    assert pickles.array(last["begin_conv.weight"]).shape == (2,)
    with pytest.raises(ValueError, match=r"give its network to importers.ncsn.params"):
        importers.read(path)


OTHERS = {
    "optimiser": ({"state": {}, "param_groups": [{"lr": 1e-3}]}, "the state of an optimiser, and no network"),
    "list": ([1, 2], "it holds list, and no weights by name"),
    "number": (3, "it holds int"),
    "another network": (
        {"layer.weight": np.zeros(2, np.float32), "layer.bias": np.zeros(2, np.float32)},
        r"2 tensors of a network that is not known \(layer.weight, layer.bias",
    ),
    "settings": ({"lr": 3}, "no tensors of a network"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_refused_with_what_they_seem_to_be(tmp_path, name):
    content, said = OTHERS[name]
    path = tmp_path / "x.pth"
    path.write_bytes(zipped(content))
    with pytest.raises(ValueError, match=f"x.pth: .*{said}.*; known are the weights of NCSN"):
        importers.recognise(path)

"""Weights of the Inception network, by the names in pytorch-fid's file."""

import jax
import numpy as np
import pytest

from jaxscore import importers
from jaxscore.networks import Inception
from tests.importers import files
from tests.networks.published import read


@pytest.fixture(scope="module")
def state():
    return read("inception_relu")[2]


def test_every_entry_but_the_classifiers_finds_its_place(state):
    found = importers.inception.params(state)
    shapes = jax.eval_shape(Inception().init, jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, shapes)
    kernels = sum(w.size for name, w in state.items() if name.endswith("conv.weight"))
    assert sum(leaf.size for leaf in jax.tree.leaves(found) if leaf.ndim == 4) == kernels
    bare = {name: w for name, w in state.items() if not name.startswith("fc.")}
    counted = bare | {"Mixed_5b.branch1x1.bn.num_batches_tracked": np.array(7)}
    counted["AuxLogits.conv0.conv.weight"] = np.zeros(3)
    for other in (bare, counted):
        jax.tree.map(np.testing.assert_array_equal, importers.inception.params(other), found)


def test_a_layer_is_the_convolution_and_then_the_batch_norm(state):
    layer = importers.inception.params(state)["params"]["Mixed_6b.branch1x1"]
    part = lambda name: state[f"Mixed_6b.branch1x1.{name}"].astype(float)
    x = np.random.default_rng(0).standard_normal(768)
    h = part("conv.weight")[:, :, 0, 0] @ x - part("bn.running_mean")
    expected = part("bn.weight") * h / np.sqrt(part("bn.running_var") + 1e-3) + part("bn.bias")
    np.testing.assert_allclose(x @ layer["kernel"][0, 0] + layer["bias"], expected, atol=1e-5)


@pytest.mark.parametrize("written", [files.zipped, files.legacy])
def test_the_file_is_one_of_pytorch(written, state, tmp_path):
    (tmp_path / "weights.pth").write_bytes(written(state))
    found = importers.inception.load(tmp_path / "weights.pth")
    jax.tree.map(np.testing.assert_array_equal, found, importers.inception.params(state))
    (tmp_path / "wrong.pth").write_bytes(written({"ema": [1, 2]}))
    with pytest.raises(ValueError, match="the file is no state dict"):
        importers.inception.load(tmp_path / "wrong.pth")


FIRST = "Conv2d_1a_3x3.conv.weight"
REFUSED = {
    "missing": ({FIRST: None}, f"the file lacks {FIRST}$"),
    "many": (dict.fromkeys(("Mixed_7c.branch1x1.bn.bias", FIRST), None), f"lacks {FIRST}, Mixed_7c"),
    "left over": ({"conv1.weight": np.zeros(1)}, "has unknown conv1.weight$"),
    "shape": ({FIRST: np.zeros((32, 3, 3, 1))}, f"has misshapen {FIRST}$"),
    "both": ({FIRST: None, "conv1.weight": np.zeros(1)}, f"lacks {FIRST}, has unknown conv1.weight$"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_state_that_does_not_fit_is_refused_by_name(name, state):
    changes, message = REFUSED[name]
    changed = {name: value for name, value in (state | changes).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        importers.inception.params(changed)


def test_weights_of_another_network_are_refused_in_a_line(tmp_path):
    np.savez(tmp_path / "other.npz", **{f"layer{i}.weight": np.zeros(2) for i in range(9)})
    with pytest.raises(
        ValueError, match=r"pytorch-fid: the file lacks .* and 467 more, has unknown .* 6 more$"
    ):
        importers.inception.load(tmp_path / "other.npz")


@pytest.mark.parametrize("content", [b"not weights", b"PK\x03\x04 cut off", b""])
def test_a_file_without_arrays_is_refused(content, tmp_path):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"not an \.npz file of NumPy arrays"):
        importers.inception.load(tmp_path / "bad.npz")
    with pytest.raises(FileNotFoundError):
        importers.inception.load(tmp_path / "absent.pth")

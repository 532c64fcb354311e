"""This library's own weights: what is read back is bit-equal, and says what it is."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import importers
from jaxscore.importers import safetensors
from jaxscore.networks import MLP
from tests.checkpoint.states import assert_identical

library = pytest.importorskip("safetensors.numpy")
NETWORK = MLP(width=8, depth=1, classes=3)
DESCRIPTION = importers.describe(NETWORK, "edm", (2,), (0.01, 20.0), sigma_data=0.5)
PARAMS = importers.initial(NETWORK, (2,))(jax.random.key(1))


def test_what_is_read_back_is_bit_equal(tmp_path):
    files = safetensors.save(tmp_path / "weights", DESCRIPTION, PARAMS)
    assert [path.name for path in files] == ["config.json", "model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "weights").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    description, params = safetensors.read(tmp_path / "weights")
    assert description == DESCRIPTION
    assert_identical(params, jax.device_get(PARAMS))
    score, network, params = safetensors.load(tmp_path / "weights")
    assert network == NETWORK
    assert score(params, jnp.ones((2, 2)), jnp.ones(2), jnp.array([0, 3])).shape == (2, 2)


def test_other_programs_read_the_arrays_by_their_paths(tmp_path):
    safetensors.save(tmp_path, DESCRIPTION, PARAMS)
    found = library.load_file(tmp_path / "model.safetensors")
    kernel = PARAMS["params"]["ConditionEmbedding_0"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(found["params/ConditionEmbedding_0/Dense_0/kernel"], kernel)
    assert json.loads((tmp_path / "config.json").read_text())["network"] == "MLP"


SQUARE = np.arange(36, dtype=np.float32).reshape(6, 6)
ORDERS = {"transposed": SQUARE.T, "fortran": np.asfortranarray(SQUARE), "slice": SQUARE[::2, 1:]}
ORDERS |= {"kernel": np.moveaxis(SQUARE.reshape(2, 3, 3, 2), (0, 1), (3, 2)), "scalar": np.float32(3)}


@pytest.mark.parametrize("name", ORDERS)
def test_arrays_of_any_order_are_written_as_they_are(tmp_path, name):
    safetensors.save(tmp_path, {"what": name}, {"a": {"b": ORDERS[name]}})
    found = safetensors.arrays(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(found["a/b"], ORDERS[name], strict=name != "scalar")


def test_sixteen_bits_become_float32(tmp_path):
    half = jnp.array([1.5, -3.0], jnp.bfloat16)
    safetensors.save(tmp_path, {}, {"a": half, "b": half.astype(jnp.float16)})
    found = safetensors.arrays(tmp_path / "model.safetensors")
    for array in found.values():
        np.testing.assert_array_equal(array, np.array([1.5, -3.0], np.float32), strict=True)


def test_bfloat16_of_other_programs_is_read(tmp_path):
    data = np.array([1.5, -3.0], jnp.bfloat16).tobytes()
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
    found = safetensors.arrays(tmp_path / "x.safetensors")["a"]
    np.testing.assert_array_equal(found, np.array([1.5, -3.0], np.float32), strict=True)


def damage(folder, name):
    safetensors.save(folder, DESCRIPTION, PARAMS)
    config, arrays = folder / "config.json", folder / "model.safetensors"
    stored = json.loads(config.read_text())
    if name == "another width":
        config.write_text(json.dumps(stored | {"fields": stored["fields"] | {"width": 16}}))
    elif name == "a run":
        config.write_text(json.dumps({"experiment": "digits", "seed": 0}))
    elif name == "a list":
        config.write_text("[]")
    elif name == "cut":
        arrays.write_bytes(arrays.read_bytes()[:-5])
    else:
        found = library.load_file(arrays)
        found["params/extra"] = found.pop(min(found))
        library.save_file(found, arrays)


DAMAGED = {
    "another width": r"does not fit MLP: \d+ of another shape",
    "a run": "config.json: this is no description|no description of a network",
    "a list": "it has list, and no settings",
    "cut": "model.safetensors: it is damaged",
    "renamed": r"1 missing \(.*; 1 left over \(params/extra\)",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_folder_that_is_damaged_is_one_line(tmp_path, name):
    damage(tmp_path, name)
    with pytest.raises(ValueError, match=rf"^{tmp_path}.*({DAMAGED[name]})") as caught:
        safetensors.load(tmp_path)
    assert "\n" not in str(caught.value)

"""Layout and names: every array of a file is used once, and every parameter is filled once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxscore.importers import weights
from jaxscore.importers.weights import Weight
from jaxscore.networks import MLP

RANDOM = np.random.default_rng(0).standard_normal


def test_a_square_dense_layer_is_transposed():
    """PyTorch's layer computes x W' + b; a square matrix would fit either way."""
    w, x = RANDOM((4, 4)), RANDOM((3, 4))
    found = nn.Dense(4, use_bias=False).apply({"params": {"kernel": weights.kernel(w)}}, x)
    np.testing.assert_allclose(found, x @ w.T, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 2])
def test_a_convolution_has_its_axes_in_flax_s_order(rank):
    """PyTorch's convolution, as a sum over the window; 3 positions, 4 channels in and 4 out."""
    w, x = RANDOM((4, 4, *(3,) * rank)), RANDOM((2, *(5,) * rank, 4))
    conv = nn.Conv(4, (3,) * rank, padding="VALID", use_bias=False)
    found = conv.apply({"params": {"kernel": weights.kernel(w)}}, x)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3,) * rank, tuple(range(1, rank + 1)))
    expected = np.einsum("bxyizw,oizw->bxyo" if rank == 2 else "bxiz,oiz->bxo", windows, w)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_window_of_one_position_is_a_dense_layer():
    w = RANDOM((5, 3, 1, 1))
    np.testing.assert_array_equal(weights.kernel(w), w[:, :, 0, 0].T)


def test_names_are_matched_as_a_whole_and_used_once():
    state = {"enc.1.weight": RANDOM((2, 3)), "enc.10.weight": RANDOM(4), "other.bias": RANDOM(2)}
    found = weights.renamed(state, [(r"enc\.1", "first"), (r"enc\.(\d\d)", r"late\1"), ("o", "wrong")])
    assert {path: weight.name for path, weight in found.items()} == {
        "first/kernel": "enc.1.weight",
        "late10/scale": "enc.10.weight",
        "other.bias": "other.bias",
    }
    with pytest.raises(ValueError, match=r"b\.weight and a\.weight are both x/kernel"):
        weights.renamed({"a.weight": RANDOM((2, 2)), "b.weight": RANDOM((2, 2))}, [("[ab]", "x")])


def test_three_parts_of_an_attention_become_one():
    parts = {f"block/{part}/kernel": Weight(f"to_{part}", RANDOM((2, 2))) for part in "qkv"}
    q, k, v = (weight.value for weight in parts.values())
    joined = weights.joined(parts)["block/qkv/kernel"].value
    np.testing.assert_array_equal(joined, np.concatenate([q, k, v], axis=1))
    in_turn = np.stack([q, k, v], axis=-1).reshape(2, 6)
    np.testing.assert_array_equal(weights.side_by_side(in_turn), joined)
    # One without its third part stays, so that the parts are found to be left over.
    del parts["block/v/kernel"]
    assert weights.joined(parts) == parts


NETWORK = MLP(width=8, depth=1)


def flat():
    params = NETWORK.init(jax.random.key(0), jnp.zeros((1, 2)), jnp.zeros(1))["params"]
    return {path: Weight(f"file.{path}", np.array(w)) for path, w in weights.flattened(params).items()}


def test_all_parameters_are_filled():
    given = flat()
    found = weights.flattened(weights.fill(NETWORK, (2,), given))
    assert found.keys() == {f"params/{path}" for path in given}
    assert all((found[f"params/{path}"] == weight.value).all() for path, weight in given.items())


def test_missing_left_over_and_misshapen_arrays_are_all_listed():
    given = flat()
    first, second, *_ = sorted(given)
    renamed = given.pop(first)
    given["other/kernel"], given[second] = renamed, Weight("short", np.zeros(3))
    with pytest.raises(ValueError, match=r"does not fit MLP") as caught:
        weights.fill(NETWORK, (2,), given)
    said = str(caught.value)
    for part in (f"1 missing ({first})", f"1 left over (file.{first})", "1 of another shape (short (3,)"):
        assert part in said
    assert "\n" not in said


@pytest.mark.parametrize("value", [np.nan, 1e300, True, 1])
def test_only_finite_real_numbers_are_weights(value):
    """1e300 is infinite in float32; the other two are a mask, and a weight that was rounded."""
    given = flat()
    path, weight = next(iter(given.items()))
    given[path] = Weight(weight.name, np.full(weight.value.shape, value))
    with pytest.raises(ValueError, match=rf"1 without finite real numbers \({weight.name}\)"):
        weights.fill(NETWORK, (2,), given)


def test_fields_without_a_network_are_one_line():
    with pytest.raises(ValueError, match="the fields of MLP do not fit x"):
        weights.fill(MLP(width=-3, depth=1), (2,), flat())


def test_of_many_names_the_first_are_shown():
    with pytest.raises(ValueError, match=r"missing \((\S+, ){3}\S+ and \d+ more\)"):
        weights.fill(NETWORK, (2,), {})


def test_settings_have_defaults_and_unknown_ones_are_refused():
    honoured = lambda given: weights.honoured(given, {"width": 8}, {"bias": (True, None)}, "Net")
    assert honoured({}) == {"width": 8}
    assert honoured({"width": 4, "bias": None}) == {"width": 4}
    with pytest.raises(ValueError, match="Net has bias = False, not supported; known: True, None"):
        honoured({"bias": False})
    with pytest.raises(ValueError, match="Net has depth = 3, which is not supported"):
        honoured({"depth": 3})

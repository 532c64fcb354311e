import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import importers
from jaxscore.networks import refinenet
from jaxscore.networks.ncsn import NCSN, NCSNv2
from tests.networks import numpy_ncsn


def state_of(**kwargs):
    return numpy_ncsn.random_state(0, numpy_ncsn.entries(4, 3, **kwargs))


def test_every_entry_of_the_deepest_network_finds_its_place():
    state = state_of(stages=numpy_ncsn.DEEPEST)
    network = NCSNv2(channels=4, stages=refinenet.DEEPEST)
    params = importers.ncsn.params(network, state)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == sum(v.size for v in state.values())
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)), jnp.zeros(1))
    chex.assert_trees_all_equal_shapes_and_dtypes(params, shapes)


# Whole networks of other stages, with their names, are compared with NumPy's in tests/networks/test_ncsn.py.
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("stage4_block1 conv2 bias", "res31.0.conv2.conv.bias"),
        ("stage6_block2 conv1 bias", "res5.1.conv1.bias"),
        ("refine6 out conv1_1 kernel", "refine1.output_convs.1_1_conv.weight"),
        ("refine4 fuse conv2 kernel", "refine31.msf.convs.1.weight"),
        ("refine3 pool norm1 embedding", "refine3.crp.norms.0.embed.weight"),
    ],
)
def test_names_of_the_deepest_network(path, name):
    assert importers.ncsn.torch_name(path.split(), refinenet.DEEPEST) == name


def test_data_parallel_prefix_and_the_noise_levels_are_dropped():
    state = state_of()
    wrapped = {f"module.{name}": value for name, value in state.items()}
    wrapped["module.sigmas"] = np.geomspace(50.0, 0.01, 7)
    network = NCSNv2(channels=4)
    chex.assert_trees_all_equal(*(importers.ncsn.params(network, each) for each in (state, wrapped)))


REFUSED = {
    "no NCSN": (4, NCSNv2, {"begin_conv.weight": None}, r"no 'begin_conv.weight'.*no NCSN"),
    "missing": (4, NCSNv2, {"normalizer.alpha": None}, "no 'normalizer.alpha', which NCSNv2 needs"),
    "shape": (4, NCSNv2, {"end_conv.bias": np.zeros(4, "f")}, r"'end_conv.bias' as \(4,\) .* \(3,\)"),
    "more": (4, NCSNv2, {"res5.0.conv1.bias": np.zeros(4)}, "has 'res5.0.conv1.bias', which NCSNv2 does not"),
    "width": (8, NCSNv2, {}, r"'begin_conv.bias' as \(4,\) does not fit"),
    "kind": (4, NCSN, {}, "embed.weight', which NCSN needs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_state_that_does_not_fit_is_refused_by_name(name):
    channels, kind, changes, message = REFUSED[name]
    state = {name: value for name, value in (state_of() | changes).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        importers.ncsn.params(kind(channels=channels), state)


PYTORCH = {
    "elu": lambda f, x: f.elu(x),
    "halve": lambda f, x: f.avg_pool2d(x, 2),
    "max_pool": lambda f, x: f.max_pool2d(x, 5, stride=1, padding=2),
    "average_pool": lambda f, x: f.avg_pool2d(x, 5, stride=1, padding=2),
    "interpolate": lambda f, x: f.interpolate(x, (12, 10), mode="bilinear", align_corners=True),
}


@pytest.mark.parametrize("name", PYTORCH)
def test_pytorchs_layers_are_those_of_the_network_in_numpy(name):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(1).standard_normal((3, 2, 6, 8))
    arguments = {"interpolate": [(12, 10)]}.get(name, [])
    expected = PYTORCH[name](torch.nn.functional, torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(getattr(numpy_ncsn, name)(x, *arguments), expected, rtol=1e-6, atol=1e-9)


def test_pytorchs_convolutions_and_norms_are_those_in_numpy():
    torch = pytest.importorskip("torch")
    x, level = np.random.default_rng(1).standard_normal((3, 4, 6, 8)), np.array([0, 2, 1])
    state = {name: value.astype(float) for name, value in state_of(levels=3).items()}
    y, tensors = torch.from_numpy(x), {name: torch.from_numpy(value) for name, value in state.items()}
    weights = [tensors[f"res1.0.conv1.{part}"] for part in ("weight", "bias")]
    convolved = torch.nn.functional.conv2d(y, *weights, padding=2, dilation=2)
    np.testing.assert_allclose(numpy_ncsn.conv(state, "res1.0.conv1", x, 2), convolved, rtol=1e-6, atol=1e-9)
    gamma, alpha, beta = tensors["normalizer.embed.weight"][level][..., None, None].chunk(3, dim=1)
    means = y.mean(dim=(2, 3), keepdim=True)
    spread = torch.sqrt(means.var(dim=1, keepdim=True) + 1e-5)
    brightness = (means - means.mean(dim=1, keepdim=True)) / spread
    expected = gamma * (torch.nn.functional.instance_norm(y) + alpha * brightness) + beta
    np.testing.assert_allclose(numpy_ncsn.norm(state, "normalizer", x, level), expected, rtol=1e-6, atol=1e-9)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import importers
from jaxscore.networks import refinenet
from jaxscore.networks.ncsn import NCSN, NCSNv2
from tests.networks import numpy_ncsn

STAGES = {"SMALL": numpy_ncsn.SHALLOW, "DEEPER": numpy_ncsn.DEEPER, "DEEPEST": numpy_ncsn.DEEPEST}


def state_of(**kwargs):
    return numpy_ncsn.random_state(0, numpy_ncsn.entries(4, 3, **kwargs))


@pytest.mark.parametrize("name", STAGES)
def test_every_entry_finds_its_place(name):
    state = state_of(stages=STAGES[name])
    network = NCSNv2(channels=4, stages=getattr(refinenet, name))
    params = importers.ncsn.params(network, state)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == sum(v.size for v in state.values())
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)), jnp.zeros(1))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(lambda leaf: leaf.shape, shapes)


def test_kernels_are_turned_and_everything_else_copied():
    state = state_of(levels=3)
    params = importers.ncsn.params(NCSN(channels=4, levels=3), state)["params"]["refinenet"]
    kernel, weight = params["stage2_block1"]["conv2"]["kernel"], state["res2.0.conv2.conv.weight"]
    assert kernel.shape == (3, 3, 4, 8)
    assert kernel[0, 2, 1, 5] == weight[5, 1, 0, 2]
    np.testing.assert_array_equal(params["end"]["bias"], state["end_conv.bias"])
    np.testing.assert_array_equal(
        params["refine1"]["adapt2"]["norm1_2"]["embedding"],
        state["refine4.adapt_convs.1.1_2_norm.embed.weight"],
    )


@pytest.mark.parametrize(
    ("path", "stages", "name"),
    [
        ("begin kernel", refinenet.SMALL, "begin_conv.weight"),
        ("norm gamma", refinenet.SMALL, "normalizer.gamma"),
        ("stage1_block2 norm2 beta", refinenet.SMALL, "res1.1.normalize2.beta"),
        ("stage2_block1 shortcut bias", refinenet.SMALL, "res2.0.shortcut.conv.bias"),
        ("stage3_block1 shortcut bias", refinenet.SMALL, "res3.0.shortcut.bias"),
        ("stage3_block1 shortcut bias", refinenet.DEEPER, "res3.0.shortcut.conv.bias"),
        ("stage4_block1 conv2 bias", refinenet.DEEPEST, "res31.0.conv2.conv.bias"),
        ("stage6_block2 conv1 bias", refinenet.DEEPEST, "res5.1.conv1.bias"),
        ("refine6 out conv1_1 kernel", refinenet.DEEPEST, "refine1.output_convs.1_1_conv.weight"),
        ("refine4 fuse conv2 kernel", refinenet.DEEPEST, "refine31.msf.convs.1.weight"),
        ("refine3 pool norm1 embedding", refinenet.DEEPEST, "refine3.crp.norms.0.embed.weight"),
        ("refine1 adapt1 norm2_1 embedding", refinenet.SMALL, "refine4.adapt_convs.0.2_1_norm.embed.weight"),
    ],
)
def test_names(path, stages, name):
    assert importers.ncsn.torch_name(path.split(), stages) == name


def test_data_parallel_prefix_and_the_noise_levels_are_dropped():
    state = state_of()
    wrapped = {f"module.{name}": value for name, value in state.items()}
    wrapped["module.sigmas"] = np.geomspace(50.0, 0.01, 7)
    network = NCSNv2(channels=4)
    a, b = importers.ncsn.params(network, state), importers.ncsn.params(network, wrapped)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def change(state, **entries):
    changed = {**state, **{name.replace("__", "."): value for name, value in entries.items()}}
    return {name: value for name, value in changed.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"begin_conv__weight": None}, r"no 'begin_conv.weight'.*no NCSN"),
        ({"normalizer__alpha": None}, r"no 'normalizer.alpha', which NCSNv2 needs"),
        ({"end_conv__bias": np.zeros(4, np.float32)}, r"'end_conv.bias' as \(4,\) .* \(3,\)"),
        ({"res5__0__conv1__bias": np.zeros(4)}, r"has 'res5.0.conv1.bias', which NCSNv2 does not"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        importers.ncsn.params(NCSNv2(channels=4), change(state_of(), **changes))


def test_a_network_of_another_kind_or_width_is_refused():
    with pytest.raises(ValueError, match=r"'begin_conv.bias' as \(4,\) does not fit"):
        importers.ncsn.params(NCSNv2(channels=8), state_of())
    with pytest.raises(ValueError, match=r"embed.weight', which NCSN needs"):
        importers.ncsn.params(NCSN(channels=4), state_of())


@pytest.mark.parametrize("levels", [None, 5])
def test_a_pytorch_network_with_these_names_computes_the_same(levels):
    pytest.importorskip("torch")
    from tests.networks import torch_ncsn

    shape = (3, 8, 12, 2)
    x = np.random.default_rng(1).uniform(-0.5, 1.5, shape).astype(np.float32)
    level = np.array([0, 2, 4])
    model = torch_ncsn.RefineNet(4, 2, levels)
    state, expected = torch_ncsn.state_and_output(model, x, level)
    assert {name: v.shape for name, v in state.items()} == numpy_ncsn.entries(4, 2, levels=levels)
    network = NCSNv2(channels=4) if levels is None else NCSN(channels=4, levels=levels)
    fast = {"xla_backend_optimization_level": 0}  # compiled in half the time
    out = jax.jit(network.apply, compiler_options=fast)(
        importers.ncsn.params(network, state), x, level.astype(np.float32)
    )
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())

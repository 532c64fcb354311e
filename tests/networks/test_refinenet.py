import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import importers
from jaxscore.networks import refinenet
from tests.networks import numpy_ncsn

LEVEL = np.array([2, 0, 2])
STAGES = ((1, 1), (2, 1), (2, 2))


def images(channels=4, sides=(4, 6), seed=1):
    x = np.random.default_rng(seed).standard_normal((3, channels, *sides)) + 0.5
    return x, jnp.asarray(np.moveaxis(x, 1, 3), jnp.float32)


def level_of(levels):
    return (None, None) if levels is None else (LEVEL, jnp.asarray(LEVEL))


def check(module, place, expected, inputs, levels):
    """module(inputs) against expected(state), its parameters those of `place` in RefineNet(STAGES)."""
    _, level = level_of(levels)
    shapes = jax.eval_shape(module.init, jax.random.key(0), inputs, level)["params"]
    name = lambda path: importers.ncsn.torch_name([place, *(entry.key for entry in path)], STAGES)
    flat = {path: leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)}
    turned = lambda shape: tuple(shape[i] for i in (3, 2, 0, 1)) if len(shape) == 4 else shape
    state = numpy_ncsn.random_state(0, {name(path): turned(shape) for path, shape in flat.items()})

    def read(path, leaf):
        value = state[name(path)]
        return jnp.asarray(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value)

    params = jax.tree_util.tree_map_with_path(read, shapes)
    out = np.moveaxis(jax.jit(module.apply)({"params": params}, inputs, level), 3, 1)
    answer = expected(state)
    assert out.shape == answer.shape
    np.testing.assert_allclose(out, answer, rtol=1e-4, atol=1e-4 * np.abs(answer).max())


@pytest.mark.parametrize("levels", [None, 3])
def test_instance_norm_plus(levels):
    x, inputs = images(channels=5)
    module = refinenet.InstanceNormPlus(levels)
    check(module, "norm", lambda s: numpy_ncsn.norm(s, "normalizer", x, LEVEL), inputs, levels)


@pytest.mark.parametrize(
    ("place", "name", "width", "dilation", "resample"),
    [
        ("stage1_block1", "res1.0", 4, 1, False),
        ("stage2_block1", "res2.0", 8, 1, True),
        ("stage3_block1", "res3.0", 4, 2, True),
        ("stage3_block2", "res3.1", 4, 2, False),
    ],
)
@pytest.mark.parametrize("levels", [None, 3])
def test_residual_blocks(place, name, width, dilation, resample, levels):
    x, inputs = images()
    level, _ = level_of(levels)
    module = refinenet.ResidualBlock(width, dilation, resample, levels)
    expected = lambda state: numpy_ncsn.residual(state, name, x, level, dilation, resample)
    check(module, place, expected, inputs, levels)


@pytest.mark.parametrize("levels", [None, 3])
def test_a_refine_block_of_two_inputs(levels):
    (x, a), (y, b) = images(), images(channels=6, sides=(2, 3), seed=2)
    level, _ = level_of(levels)
    expected = lambda state: numpy_ncsn.refine(state, "refine2", [x, y], level, 1)
    check(refinenet.RefineBlock(5, 1, levels), "refine2", expected, [a, b], levels)


def test_a_refine_block_of_one_input_and_three_units():
    x, inputs = images()
    expected = lambda state: numpy_ncsn.refine(state, "refine3", [x], None, 3)
    check(refinenet.RefineBlock(4, 3), "refine1", expected, [inputs], None)


def test_norms_start_near_one_without_a_shift():
    _, x = images(channels=500)
    plain = jax.jit(refinenet.InstanceNormPlus().init)(jax.random.key(0), x)["params"]
    level = jnp.asarray(LEVEL)
    rows = jax.jit(refinenet.InstanceNormPlus(3).init)(jax.random.key(0), x, level)["params"]["embedding"]
    assert rows.shape == (3, 1500)
    np.testing.assert_array_equal(plain["beta"], jnp.zeros(500))
    np.testing.assert_array_equal(rows[:, 1000:], jnp.zeros((3, 500)))
    for scales in (plain["gamma"], plain["alpha"], rows[:, :500], rows[:, 500:1000]):
        # From 500 draws: the mean to 0.02 / sqrt(500) = 0.001, the standard deviation to 3 per cent.
        assert float(scales.mean()) == pytest.approx(1.0, abs=0.004)
        assert float(scales.std()) == pytest.approx(0.02, rel=0.15)


def test_a_norm_of_bfloat16_keeps_its_statistics_in_float32():
    # A mean of 100 and a spread of 1: in 8 bits the pixels themselves would be known to 0.5 only.
    _, x = images()
    x = jnp.round(100 + x)
    norm = refinenet.InstanceNormPlus()
    params = jax.jit(norm.init)(jax.random.key(0), x)
    half = refinenet.InstanceNormPlus(dtype=jnp.bfloat16).apply(params, x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    exact = x.astype(jnp.bfloat16).astype(jnp.float32)
    np.testing.assert_allclose(half.astype(jnp.float32), norm.apply(params, exact), rtol=0.01, atol=0.01)


@pytest.mark.parametrize(("sides", "stages"), [((6, 7), refinenet.SMALL), ((12, 10), refinenet.DEEPER)])
def test_sides_that_do_not_halve_are_refused(sides, stages):
    x = jnp.zeros((1, *sides, 1))
    with pytest.raises(ValueError, match="must be even where the network halves them"):
        jax.eval_shape(refinenet.RefineNet(4, stages).init, jax.random.key(0), x)

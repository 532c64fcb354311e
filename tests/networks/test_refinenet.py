"""What the blocks compute is compared with NumPy in the whole network: see test_ncsn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore.networks import refinenet
from jaxscore.networks.resampling import padded
from tests.grids import rest
from tests.networks import contract


def images(channels=4):
    return jnp.asarray(np.random.default_rng(1).standard_normal((3, 4, 6, channels)) + 0.5, jnp.float32)


def test_norms_start_near_one_without_a_shift():
    x = images(channels=500)
    plain = jax.jit(refinenet.InstanceNormPlus().init)(jax.random.key(0), x)["params"]
    level = jnp.array([2, 0, 2])
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
    x = jnp.round(100 + images())
    norm = refinenet.InstanceNormPlus()
    params = jax.jit(norm.init)(jax.random.key(0), x)
    half = refinenet.InstanceNormPlus(dtype=jnp.bfloat16).apply(params, x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    exact = x.astype(jnp.bfloat16).astype(jnp.float32)
    np.testing.assert_allclose(half.astype(jnp.float32), norm.apply(params, exact), rtol=0.01, atol=0.01)


@pytest.mark.parametrize(("sides", "stages"), [rest((6, 7), refinenet.SMALL), ((12, 10), refinenet.DEEPER)])
def test_sides_that_do_not_halve_are_padded_inside(sides, stages):
    x = jax.random.normal(jax.random.key(1), (1, *sides, 1))
    network = refinenet.RefineNet(4, stages)
    params = contract.parameters(network, x)
    factor = 2 if stages == refinenet.SMALL else 4
    apply = jax.jit(network.apply)
    out, whole = apply(params, x), apply(params, padded(x, factor))
    np.testing.assert_allclose(out, whole[:, : sides[0], : sides[1]], rtol=1e-5)

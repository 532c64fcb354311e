"""EDM2; tests/networks/test_parity.py holds it against the published network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxscore import noise
from jaxscore.networks import EDM2, edm2
from tests.networks import contract

make = functools.partial(EDM2, channels=4, multipliers=(1, 2), blocks=1, attention=(1,))


@pytest.mark.parametrize("check", ["bfloat16", "dropout"])
def test_keeps_the_promises_of_a_network(check):
    contract.CHECKS[check](make, (4, 6, 2))


@pytest.mark.parametrize("event", [(5, 3), (2, 3, 4, 1)])
def test_sequences_and_volumes_come_back_in_their_shape(event):
    contract.check_shape_and_zero_start(make(), event)


def test_layers_keep_the_magnitude_of_normal_inputs():
    """20,000 numbers: a mean square is known to 1 %. A kernel that is drawn leaves a few per cent."""
    x = noise.normal(jax.random.key(0), (20_000, 64))
    square = lambda x: float(jnp.mean(x**2))
    layer = edm2.MPConv(256, 1)
    assert square(layer.apply(layer.init(jax.random.key(1), x), x)) == pytest.approx(1, rel=0.05)
    assert square(edm2.mp_silu(x)) == pytest.approx(1, rel=0.02)
    y = noise.normal(jax.random.key(2), (20_000, 16))
    assert square(edm2.mp_concatenate(x, y)) == pytest.approx(1, rel=0.02)
    assert square(edm2.mp_sum(x, x[::-1], 0.3)) == pytest.approx(1, rel=0.02)
    fourier = edm2.MPFourier(64)
    waves = fourier.apply(fourier.init(jax.random.key(3), x[:, 0]), x[:, 0])
    assert square(waves) == pytest.approx(1, rel=0.05)


def test_forced_kernels_keep_their_norm_in_training():
    """Biases and gains move as without it; the norm of a kernel of n inputs is sqrt(n) for each output."""
    params = {"layer": {"kernel": noise.normal(jax.random.key(0), (3, 3, 4, 5))}, "gain": jnp.ones(())}
    tx = optax.chain(optax.sgd(0.5), edm2.forced())
    grads = {"layer": {"kernel": jnp.ones((3, 3, 4, 5))}, "gain": jnp.ones(())}
    updates, _ = tx.update(grads, tx.init(params), params)
    after = optax.apply_updates(params, updates)
    kernel = np.asarray(after["layer"]["kernel"]).reshape(-1, 5)
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 6.0, rtol=1e-3)
    straight = np.asarray(params["layer"]["kernel"] - 0.5).reshape(-1, 5)
    np.testing.assert_allclose(
        kernel / 6, straight / np.linalg.norm(straight, axis=0, keepdims=True), atol=1e-3
    )
    assert float(after["gain"]) == 0.5


def test_a_size_that_is_not_published_is_refused():
    with pytest.raises(ValueError, match="size 'xxxl' is not known; use xs, s, m, l, xl, xxl"):
        EDM2.named("xxxl")

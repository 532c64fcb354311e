import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import ema


def test_update_is_the_closed_form_of_a_weighted_mean():
    decay, rng = 0.9, np.random.default_rng(0)
    history = rng.standard_normal((12, 3)).astype(np.float32)
    average = {"w": jnp.asarray(history[0])}
    for params in history[1:]:
        average = ema.update(average, {"w": jnp.asarray(params)}, decay)
    # m^n start + (1 - m) sum_k m^(n - k) params_k, in float64.
    n = len(history) - 1
    weights = np.append(decay**n, (1 - decay) * decay ** (n - np.arange(1, n + 1)))
    np.testing.assert_allclose(weights.sum(), 1)
    np.testing.assert_allclose(average["w"], weights @ history.astype(float), rtol=1e-5, atol=1e-6)


def test_warm_up_follows_the_number_of_updates_until_the_decay():
    decay = ema.constant(0.999)
    for n in (0, 1, 9, 90, 8980):
        np.testing.assert_allclose(decay(jnp.asarray(n)), (1 + n) / (10 + n), rtol=1e-6)
    for n in (9000, 10**6):
        np.testing.assert_allclose(decay(jnp.asarray(n)), 0.999, rtol=1e-6)


def test_without_warm_up_the_decay_is_constant():
    decay = ema.constant(0.9, warm_up=False)
    np.testing.assert_allclose([decay(jnp.asarray(n)) for n in (0, 5, 1000)], 0.9, rtol=1e-6)


def test_a_decay_of_zero_is_the_parameters_themselves():
    assert float(ema.update(jnp.ones(()), jnp.full((), 3.0), ema.constant(0.0)(jnp.asarray(5)))) == 3.0


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0])
def test_decays_outside_zero_to_one_are_refused(decay):
    with pytest.raises(ValueError, match="decay"):
        ema.constant(decay)

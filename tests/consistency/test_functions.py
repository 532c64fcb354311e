"""Consistency functions of networks, and the samples that are drawn with them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import consistency, noise, samplers
from jaxscore.score import denoise, from_denoiser
from jaxscore.score import preconditioned as denoiser_of
from tests.consistency import gaussian
from tests.consistency.gaussian import S0, SIGMA_MAX, SIGMA_MIN, exact
from tests.draws import assert_gaussian

X = jnp.array([[0.3, -1.2], [2.0, 0.1], [-0.7, 0.4], [50.0, -30.0]])
SIGMA = jnp.array([0.002, 0.1, 1.0, 80.0])


def network(params, x, c_noise):
    return params * jnp.sin(x + c_noise[:, None])


@pytest.mark.parametrize("sigma_min", [0.002, 0.02])
def test_it_is_x_to_the_last_bit_at_the_smallest_level(sigma_min):
    """Random parameters, also those of the output layer."""
    params = [(w + 1.0, b - 1.0) for w, b in gaussian.init(jax.random.key(0))]
    f = jax.jit(consistency.preconditioned(gaussian.network, 0.5, sigma_min))
    for sigma in (sigma_min, jnp.full(4, sigma_min)):
        np.testing.assert_array_equal(f(params, X, sigma), X)
    assert (f(params, X, 2 * sigma_min) != X).all()


def test_preconditioned_has_the_published_coefficients():
    """Appendix C of Song et al. 2023 in NumPy and float64."""
    x, s = np.asarray(X, float), np.asarray(SIGMA, float)[:, None]
    root = np.sqrt(s**2 + 0.25)
    expected = 0.25 / ((s - 0.002) ** 2 + 0.25) * x
    expected += 0.5 * (s - 0.002) / root * 2 * np.sin(x / root + np.log(s) / 4)
    np.testing.assert_allclose(consistency.preconditioned(network, 0.5)(2.0, X, SIGMA), expected, rtol=2e-5)


def test_a_score_is_a_first_guess_of_its_function():
    """Euler's step to the smallest level; x itself there; and the condition reaches the score."""
    score = lambda params, x, sigma, condition=0.0: -params * jnp.sin(x) / (1 + sigma[:, None]) + condition
    f = consistency.from_score(score, 0.1)
    np.testing.assert_array_equal(f(2.0, X, 0.1), X)
    step, _ = samplers.sample(
        jax.random.key(0), X, jnp.array([3.0, 0.1]), functools.partial(score, 2.0), samplers.euler()
    )
    np.testing.assert_allclose(f(2.0, X, 3.0), step, rtol=1e-5)
    np.testing.assert_allclose(f(0.0, X, 3.0, 1.0) - X, 2.9 * 3.0, rtol=1e-4)
    with pytest.raises(ValueError, match=r"sigma_min = 0\.0"):
        consistency.from_score(score, 0.0)
    with pytest.raises(ValueError, match="the score has shape"):  # it would be broadcast
        consistency.from_score(lambda params, x, sigma: x[:, :1])(0.0, X, 3.0)


def test_it_is_the_denoiser_far_above_the_smallest_level():
    denoiser = denoise(functools.partial(denoiser_of(network, 0.5), 2.0), X, 5.0)
    ours = consistency.preconditioned(network, 0.5)(2.0, X, 5.0)
    np.testing.assert_allclose(ours, denoiser, atol=2e-3)  # sigma_min / sigma is 4e-4


def test_a_condition_reaches_the_network():
    net = lambda params, x, c_noise, condition: condition
    f = consistency.preconditioned(net, 0.5)
    np.testing.assert_allclose(f((), 0 * X, SIGMA[1:2].repeat(4), X) / X, 0.5 * 0.098 / 0.26**0.5, rtol=1e-5)


@pytest.mark.parametrize("levels", [(SIGMA_MAX, 0.0), (SIGMA_MAX, 0.5, 0.0), (SIGMA_MAX, 3.0, 0.1, 0.0)])
def test_the_exact_function_draws_the_data(levels):
    """In one step, two and three: the samples are N(0, (S0^2 + SIGMA_MIN^2) I)."""
    moments = samplers.Moments(jnp.zeros(2), jnp.array(S0**2))
    sampler, sigmas = consistency.renoise(SIGMA_MIN), jnp.array(levels)
    key, score = jax.random.key(0), from_denoiser(exact)
    x = samplers.generate(key, (20_000, 2), sigmas, score, sampler, moments=moments)
    assert_gaussian(x, 0.0, S0**2 + SIGMA_MIN**2)
    assert samplers.evaluations(sampler, sigmas) == len(levels) - 1


def test_noise_is_added_up_to_the_next_level():
    """The function is 0, so the noise alone is seen; row 3 depends on its own key."""
    zero = from_denoiser(lambda x, sigma: 0 * x)
    draw = lambda key, x: samplers.sample(key, x, jnp.array([5.0, 0.5]), zero, consistency.renoise(0.3))[0]
    keys = lambda: noise.row_keys(jax.random.key(1), 20_000)
    x = draw(keys(), jnp.zeros((20_000, 2)))
    assert_gaussian(x, 0.0, 0.5**2 - 0.3**2)
    np.testing.assert_array_equal(draw(keys()[3:4], jnp.zeros((1, 2))), x[3:4])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: consistency.preconditioned(network, 0.0), "sigma_data = 0.0 must be positive"),
        (lambda: consistency.preconditioned(network, 0.5, -1.0), "sigma_min = -1.0 must be positive"),
        (lambda: consistency.renoise(0.0), "sigma_min = 0.0 must be positive"),
        (lambda: consistency.preconditioned(network, 0.5)(1.0, X, SIGMA[:2]), "sigma has shape"),
        (
            lambda: consistency.preconditioned(lambda *a: jnp.zeros((4, 1)), 0.5)(1.0, X, SIGMA),
            "the network's output has shape",
        ),
    ],
)
def test_bad_input_is_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()

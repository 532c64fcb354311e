"""The variational bound, against the density of mixtures and of a Gaussian."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import likelihood, mixtures, noise, samplers
from tests.likelihood.test_flow import RANGE, case, mixture_in


def estimate(score, x, **given):
    key = jax.random.key(2)
    return jax.jit(lambda key, x: likelihood.bound(score, key, x, **RANGE | given))(key, x)


@pytest.mark.parametrize("dimensions", [2, 16, 64])
def test_with_the_exact_score_it_is_nearly_the_density(dimensions):
    """On average over examples; the decoder loses D (sigma_min / width)^4 / 4 nats, which is below 1e-4."""
    score, x, _, moments = case(dimensions, 400)
    found = estimate(score, x, moments=moments, draws=32)
    away = np.asarray(found.value - mixtures.log_density(mixture_in(dimensions), x, 0.0), float)
    error = away.std(ddof=1) / np.sqrt(len(away))
    assert abs(away.mean()) < 3 * error


def test_the_standard_error_is_that_of_the_value():
    """Each row is one example with another key; the spread of the rows against the errors that they state."""
    score, x, _, moments = case(16, 400)
    same = jnp.broadcast_to(x[:1], x.shape)
    found = estimate(score, same, moments=moments, draws=16)
    spread, said = np.std(np.asarray(found.value), ddof=1), np.sqrt(np.mean(found.standard_error**2))
    # The error of a standard deviation of 400 is 3.5 %, tails aside; stratified levels make it smaller.
    assert 0.6 < spread / said < 1.15


def test_for_a_gaussian_nothing_is_random():
    score = lambda x, sigma: (1.0 - x) / (0.49 + sigma[:, None] ** 2)
    x = 1.0 + 0.7 * noise.normal(jax.random.key(0), (6, 3))
    moments = samplers.Moments(jnp.ones(3), jnp.asarray(0.49))
    found = estimate(score, x, moments=moments, draws=4)
    truth = -jnp.sum((x - 1) ** 2 / 0.49, axis=1) / 2 - 1.5 * jnp.log(2 * jnp.pi * 0.49)
    np.testing.assert_allclose(found.value, truth, atol=1e-3)
    np.testing.assert_allclose(found.standard_error, 0, atol=1e-4)


def test_the_decoder_loses_what_its_posterior_is_narrower():
    """At a large sigma_min: KL(N(0, a), N(0, sigma_min^2)) in each dimension, a the posterior's variance."""
    score = lambda x, sigma: -x / (0.49 + sigma[:, None] ** 2)
    x = 0.7 * noise.normal(jax.random.key(0), (4000, 3))
    found = estimate(score, x, moments=samplers.Moments(jnp.zeros(3), jnp.asarray(0.49)), sigma_min=0.5)
    truth = -jnp.sum(x**2 / 0.49, axis=1) / 2 - 1.5 * jnp.log(2 * jnp.pi * 0.49)
    away = np.asarray(found.value - truth, float)
    ratio = 0.49 / (0.49 + 0.25)
    lost = 3 / 2 * (ratio - 1 - np.log(ratio))
    assert lost > 0.05
    assert abs(away.mean() + lost) < 3 * away.std() / np.sqrt(4000) + 1e-3


def test_another_score_lowers_it():
    """The bound holds for any score; it is the likelihood of another model."""
    score, x, truth, moments = case(16, 400)
    wrong = lambda x, sigma: 0.8 * score(x, sigma)
    found = estimate(wrong, x, moments=moments, draws=8)
    assert float(jnp.mean(found.value - truth)) < -1


def test_one_draw_has_no_standard_error_and_rows_are_their_own():
    score, x, _, moments = case(2, 400)
    one = estimate(score, x[:5], moments=moments, draws=1)
    assert jnp.isnan(one.standard_error).all()
    np.testing.assert_allclose(
        estimate(score, x[:2], moments=moments, draws=1).value, one.value[:2], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"draws": 0}, "draws = 0 must be at least 1"),
        ({"sigma_max": 0.001}, "need 0 < sigma_min < sigma_max"),
        ({"moments": samplers.Moments(jnp.zeros(3), jnp.ones(()))}, r"the moments are those of \(3,\)"),
    ],
)
def test_what_cannot_be_is_refused(given, reason):
    score, x, _, _ = case(2, 400)
    with pytest.raises(ValueError, match=reason):
        likelihood.bound(score, jax.random.key(0), x, **RANGE | given)
    with pytest.raises(ValueError, match="has no density"):
        likelihood.bound(functools.partial(score), jax.random.key(0), x.astype(int), **RANGE)

"""Priors: their draws and their log densities."""

import jax
import numpy as np
import scipy.stats

from experiments.sbi import priors
from tests.draws import assert_gaussian, assert_mean

key = lambda number=0: jax.random.key(number)
ROOT = np.array([[2.0, 0.0], [-1.0, 0.8]])


def test_a_box_is_uniform_and_ends_at_its_bounds():
    prior = priors.box(3.0, 4)
    draws = np.asarray(prior.draw(key(), 20_000))
    assert np.abs(draws).max() <= 3
    assert_mean(draws, 0.0)
    assert_mean(draws**2, 3.0)
    inside = prior.log_density(
        np.array([[3.0, -3.0, 0.0, 1.0], [3.1, 0.0, 0.0, 0.0], [np.nan, 0.0, 0.0, 0.0]])
    )
    np.testing.assert_allclose(inside, [-4 * np.log(6), -np.inf, -np.inf], rtol=1e-6)
    np.testing.assert_array_equal(prior.bounds, [[-3.0] * 4, [3.0] * 4])


def test_a_gaussian_has_the_precision_of_its_root():
    prior, covariance = priors.gaussian(ROOT), np.linalg.inv(ROOT.T @ ROOT)
    draws = np.asarray(prior.draw(key(), 20_000), float)
    assert_mean(draws, 0.0)
    assert_mean(draws[:, :, None] * draws[:, None, :], covariance)
    expected = scipy.stats.multivariate_normal(np.zeros(2), covariance).logpdf(draws[:50])
    np.testing.assert_allclose(prior.log_density(draws[:50]), expected, rtol=1e-4, atol=1e-4)
    assert prior.bounds is None


def test_row_i_does_not_depend_on_how_many_are_drawn():
    for prior in (priors.box(1.0, 2), priors.gaussian(ROOT)):
        np.testing.assert_allclose(prior.draw(key(), 5), prior.draw(key(), 100)[:5], rtol=1e-6)


def test_uniform_numbers_have_the_asked_range():
    draws = np.asarray(priors.uniform(key(), (20_000, 2), -1.0, 3.0))
    assert draws.min() >= -1
    assert draws.max() < 3
    assert_mean(draws, 1.0)


def test_log_normal_is_scipys():
    z = jax.random.normal(key(), (10, 3))
    expected = scipy.stats.norm(0, 0.1).logpdf(np.asarray(z, float)).sum(axis=1)
    np.testing.assert_allclose(priors.log_normal(z, 0.1), expected, rtol=1e-5)
    assert_gaussian(z, 0.0, 1.0)


def test_a_product_is_numpys():
    x, matrix = np.arange(6.0).reshape(3, 2), np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]])
    np.testing.assert_allclose(priors.product(x, matrix), x @ matrix, rtol=1e-6)

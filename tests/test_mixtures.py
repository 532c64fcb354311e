import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxscore import mixtures, score
from tests.draws import assert_mean

WEIGHTS = [1.0, 2.0, 5.0]  # normalised by the constructor
MEANS = np.array([[1.0, 0.0], [-2.0, 1.0], [0.5, -3.0]])
COVARIANCES = np.array([[[1.0, 0.6], [0.6, 0.8]], [[0.3, 0.0], [0.0, 0.1]], [[0.5, -0.4], [-0.4, 0.6]]])
MIXTURE = mixtures.correlated(WEIGHTS, MEANS, COVARIANCES)
POINTS = jax.random.uniform(jax.random.key(0), (50, 2), minval=-5.0, maxval=5.0)


def scipy_log_joint(x, sigma):
    weights = np.asarray(WEIGHTS) / np.sum(WEIGHTS)
    parts = [
        np.log(w) + scipy.stats.multivariate_normal(m, c + sigma**2 * np.eye(2)).logpdf(np.asarray(x, float))
        for w, m, c in zip(weights, MEANS, COVARIANCES, strict=True)
    ]
    return np.stack(parts, axis=1)


@pytest.mark.parametrize("sigma", [0.0, 0.3, 10.0])
def test_log_density_and_responsibilities_are_scipys(sigma):
    joint = scipy_log_joint(POINTS, sigma)
    sigmas = jnp.full(50, sigma)
    # Exponents reach a few hundred nats at sigma = 0: float32 keeps 1e-6 of that.
    expected = scipy.special.logsumexp(joint, axis=1)
    np.testing.assert_allclose(mixtures.log_density(MIXTURE, POINTS, sigmas), expected, rtol=1e-5, atol=1e-4)
    shares = mixtures.responsibilities(MIXTURE, POINTS, sigmas)
    np.testing.assert_allclose(shares, scipy.special.softmax(joint, axis=1), atol=1e-4)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 10.0])
def test_score_is_the_gradient_of_log_density(sigma):
    gradient = score.from_log_density(functools.partial(mixtures.log_density, MIXTURE))
    sigmas = jnp.full(50, sigma)
    found = mixtures.score(MIXTURE, POINTS, sigmas)
    np.testing.assert_allclose(found, gradient(POINTS, sigmas), rtol=1e-4, atol=1e-5)


def test_every_example_has_its_own_sigma():
    sigmas, some = jnp.linspace(0.1, 3.0, 50), jnp.array([0, 20, 49])
    score_of = lambda *rows: mixtures.score(MIXTURE, *rows)
    alone = jnp.concatenate([score_of(POINTS[i][None], sigmas[i][None]) for i in some])
    np.testing.assert_allclose(score_of(POINTS, sigmas)[some], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_draws_have_the_moments_of_the_noisy_mixture(sigma):
    x = np.asarray(mixtures.draw(jax.random.key(1), MIXTURE, 20_000, sigma=sigma), float)
    mean, covariance = map(np.asarray, mixtures.moments(MIXTURE, sigma=sigma))
    assert_mean(x, mean)
    assert_mean((x - mean)[:, :, None] * (x - mean)[:, None, :], covariance)


def test_moments_are_the_textbook_ones():
    weights = np.asarray(WEIGHTS) / np.sum(WEIGHTS)
    mean = weights @ MEANS
    second = np.einsum("k,kij->ij", weights, COVARIANCES + MEANS[:, :, None] * MEANS[:, None, :])
    ours = mixtures.moments(MIXTURE, sigma=0.5)
    np.testing.assert_allclose(ours[0], mean, rtol=1e-5)
    np.testing.assert_allclose(ours[1], second - np.outer(mean, mean) + 0.25 * np.eye(2), rtol=1e-5)


def test_a_draw_follows_its_component():
    # Far apart, so that the nearest mean is the component: each has its own mean and covariance.
    far = mixtures.correlated(WEIGHTS, 20 * MEANS, COVARIANCES)
    x = np.asarray(mixtures.draw(jax.random.key(2), far, 20_000), float)
    owner = np.argmin(np.linalg.norm(x[:, None] - 20 * MEANS[None], axis=2), axis=1)
    assert_mean(owner[:, None] == np.arange(3), np.asarray(far.weights))
    for k in range(3):
        mine = x[owner == k]
        # 6 standard errors of a variance, sqrt(2/n) of it; covariances are smaller.
        np.testing.assert_allclose(np.cov(mine.T), COVARIANCES[k], atol=6 * np.sqrt(2 / len(mine)))


def test_draw_i_does_not_depend_on_how_many_are_drawn():
    key = jax.random.key(3)
    np.testing.assert_array_equal(mixtures.draw(key, MIXTURE, 5), mixtures.draw(key, MIXTURE, 100)[:5])


def test_mode_weights_count_the_points_of_each_mode():
    two = mixtures.two_modes()
    points = jnp.concatenate([jnp.full((3, 2), 2.8), jnp.full((1, 2), -2.8)])
    np.testing.assert_allclose(mixtures.mode_weights(two, points), [0.75, 0.25])


def test_the_toy_mixtures_are_what_they_say():
    two = mixtures.two_modes(weight=0.8, distance=8.0, std=0.5)
    np.testing.assert_allclose(two.weights, [0.8, 0.2], rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(two.means[0] - two.means[1]), 8.0, rtol=1e-6)
    ring = mixtures.ring(modes=8, radius=4.0, std=0.3)
    np.testing.assert_allclose(np.linalg.norm(ring.means, axis=1), 4.0, rtol=1e-6)
    gaps = np.linalg.norm(ring.means - np.roll(ring.means, 1, axis=0), axis=1)
    np.testing.assert_allclose(gaps, 2 * 4.0 * np.sin(np.pi / 8), rtol=1e-5)
    np.testing.assert_allclose(ring.variances, 0.09, rtol=1e-6)
    grid = mixtures.grid25(spacing=2.0)
    assert set(map(tuple, grid.means.tolist())) == set(itertools.product(range(-4, 5, 2), repeat=2))
    np.testing.assert_allclose(grid.weights, 1 / 25, rtol=1e-6)


def test_isotropic_takes_one_std_or_one_for_each():
    mixture = mixtures.isotropic([1.0, 3.0], [[0.0], [1.0]], [0.5, 2.0])
    np.testing.assert_allclose(mixture.weights, [0.25, 0.75])
    np.testing.assert_allclose(mixture.variances, [[0.25], [4.0]])


@pytest.mark.parametrize(
    "make",
    [
        lambda: mixtures.isotropic([1.0, 0.0], [[0.0], [1.0]], 1.0),
        lambda: mixtures.isotropic([1.0, 1.0], [[0.0], [1.0]], 0.0),
        lambda: mixtures.correlated([-1.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]]),
        lambda: mixtures.correlated([1.0], [[0.0, 0.0]], [[[1.0, 2.0], [2.0, 1.0]]]),
    ],
)
def test_impossible_mixtures_are_refused(make):
    with pytest.raises(ValueError, match="positive"):
        make()


def test_points_that_are_not_numbers_have_no_modes():
    x = jnp.zeros((4, 2)).at[1, 0].set(jnp.nan)
    assert jnp.isnan(mixtures.mode_weights(mixtures.two_modes(), x)).all()


def test_components_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"weights have shape \(1,\), and means have shape \(2, 2\)"):
        mixtures.isotropic([1.0], [[1.0, 1.0], [2.0, 2.0]], 0.3)
    with pytest.raises(ValueError, match="must be symmetric"):
        mixtures.correlated([1.0], [[0.0, 0.0]], [[[1.0, 0.9], [0.0, 1.0]]])

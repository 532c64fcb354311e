import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import noise, samplers

GRID = noise.levels(noise.karras(0.01, 5.0), 12)


def data():
    """500 events of 6 numbers with different means and covariances."""
    draws = np.random.default_rng(0).standard_normal((500, 6)) @ np.diag([1.0, 2, 3, 1, 1, 0.0])
    return (draws @ np.triu(np.ones((6, 6))) + np.arange(6)).reshape(500, 3, 2)


def test_moments_are_mean_and_covariance():
    x = data()
    mean, variances, axes = map(np.asarray, samplers.moments(x))
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-5)
    covariance = np.cov(x.reshape(500, 6).T, bias=True)
    np.testing.assert_allclose(axes * variances @ axes.T, covariance, atol=1e-4)


def test_large_events_have_one_mean_variance():
    x = np.random.default_rng(0).standard_normal((50, 1025)) * 2
    found = samplers.moments(x)
    assert found.axes is None
    np.testing.assert_allclose(found.variances, ((x - x.mean(axis=0)) ** 2).mean(), rtol=1e-5)


def test_prior_has_the_moments_of_the_noisy_data():
    x, sigma = data(), 2.0
    drawn = samplers.prior(jax.random.key(0), (50_000, 3, 2), sigma, samplers.moments(x)).reshape(-1, 6)
    covariance = np.cov(x.reshape(500, 6).T, bias=True) + sigma**2 * np.eye(6)
    # Standard errors relative to the standard deviations are 1 / sqrt(n) = 0.0045, four of them are allowed;
    # those of covariances are at most sqrt(2) as large.
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(drawn.mean(axis=0) / scale, x.mean(axis=0).ravel() / scale, atol=0.018)
    np.testing.assert_allclose(
        np.cov(drawn.T) / np.outer(scale, scale), covariance / np.outer(scale, scale), atol=0.026
    )


def test_data_at_one_point_leave_the_noise_as_it_is():
    """Both priors are made of the same numbers."""
    moments = samplers.moments(np.zeros((5, 3, 2)))
    plain, other = (samplers.prior(jax.random.key(0), (4, 3, 2), 2.0, m) for m in (None, moments))
    np.testing.assert_allclose(plain, other, atol=1e-5)


def test_moments_of_more_rows_than_a_block_has():
    x = (
        np.random.default_rng(0).standard_normal((4500, 3)) * [1.0, 2.0, 3.0]
        + np.arange(4500)[:, None] / 4500
    )
    mean, variances, axes = map(np.asarray, samplers.moments(x))
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(axes * variances @ axes.T, np.cov(x.T, bias=True), atol=1e-5)


@pytest.mark.parametrize(
    ("x", "named"),
    [
        (np.zeros((5, 0)), r"x has shape \(5, 0\)"),
        (np.zeros((0, 2)), r"x has shape \(0, 2\)"),
        (np.array([[1.0, np.nan]]), "the mean of x is not finite"),
        (np.array([[np.inf, 0.0]]), "the mean of x is not finite"),
    ],
)
def test_data_without_moments_are_refused(x, named):
    with pytest.raises(ValueError, match=named):
        samplers.moments(x)


def test_moments_of_other_events_are_refused():
    with pytest.raises(ValueError, match=r"the moments are those of \(3, 2\), and an event has shape \(6,\)"):
        samplers.prior(jax.random.key(0), (4, 6), 2.0, samplers.moments(data()))


def gaussian(x, sigma):
    """The score of N(3, 0.5^2 I)."""
    return (3 - x) / (0.25 + sigma[:, None] ** 2)


def test_a_prior_with_moments_leaves_no_bias():
    """Without them the mean is short by 3 * 0.5 / sqrt(0.25 + 25), the flow's contraction of the start."""
    draw = lambda moments: samplers.generate(
        jax.random.key(0), (4000, 2), GRID, gaussian, samplers.heun(), moments=moments
    )
    # 8,000 numbers of standard deviation 0.5: the mean's standard error is 0.006.
    np.testing.assert_allclose(draw(None).mean(), 3 - 3 * 0.5 / np.sqrt(25.25), atol=0.05)
    x = draw(samplers.Moments(jnp.full(2, 3.0), jnp.array(0.25)))
    np.testing.assert_allclose(x.mean(), 3, atol=0.025)
    np.testing.assert_allclose(x.std(), 0.5, rtol=0.04)


def test_the_start_has_one_noise_level():
    with pytest.raises(ValueError, match=r"sigma has shape \(2,\); the start has one noise level"):
        samplers.prior(jax.random.key(0), (4, 2), jnp.ones(2))


def test_moments_of_lists_are_those_of_arrays():
    found = samplers.moments([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(found.mean, [2, 3])

"""The problems are those of the paper, and the same for the same seed."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.posterior import problems
from jaxscore import mixtures


def test_the_mixture_has_25_modes_on_a_repeated_grid():
    found = problems.mixture(8, 2, 0, 10)
    means = np.asarray(found.prior.means)
    assert means.shape == (25, 8)
    np.testing.assert_array_equal(means[:, 2:], np.tile(means[:, :2], 3))
    assert {tuple(each) for each in means[:, :2]} == {
        (8.0 * i, 8.0 * j) for i in range(-2, 3) for j in range(-2, 3)
    }
    singular = np.linalg.svd(np.asarray(found.matrix), compute_uv=False)
    assert singular.max() <= 1
    assert 0 < float(found.noise) <= singular.max()
    assert found.y.shape == (2,)


def test_a_problem_depends_on_its_seed():
    one, same, other = (problems.mixture(8, 1, seed, 10) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.matrix, same.matrix)
    assert not np.allclose(one.matrix, other.matrix)


def test_the_measured_point_is_likely_under_the_posterior():
    """The distance of y from A x, for x from the posterior, is that of its noise."""
    away = []
    for seed in range(20):
        found = problems.mixture(8, 1, seed, 10)
        x = mixtures.draw(jax.random.key(seed), found.posterior, 400)
        away.append(np.mean(np.asarray((found.operator().apply(x) - found.y[None]) / found.noise) ** 2))
    # A x given y has at most the variance of the noise, and so has y given A x: about 1 over many problems.
    assert 0.1 < np.mean(away) < 2.0, away


def test_the_smallest_problem_has_the_posterior_that_it_says():
    found = problems.one_number(10)
    mean, covariance = mixtures.moments(found.posterior)
    np.testing.assert_allclose([mean[0], covariance[0, 0] ** 0.5], [0.917, 0.287], atol=5e-4)
    x, sigma = jnp.array([[0.3]]), jnp.array([0.5])
    np.testing.assert_allclose(found.score()(x, sigma), [[-0.3 / 1.25]], rtol=1e-5)
    np.testing.assert_allclose(
        found.exact()(x, sigma), [[(mean[0] - 0.3) / (covariance[0, 0] + 0.25)]], rtol=1e-4
    )
    assert (found.event, float(found.sigma_data)) == ((1,), 1.0)

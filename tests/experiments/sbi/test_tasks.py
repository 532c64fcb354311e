"""The tasks: simulations have the distribution that the likelihood says, and rows are independent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from experiments.sbi import tasks
from experiments.sbi.tasks import TASKS, joint
from tests.draws import assert_mean
from tests.experiments.sbi import posteriors

N = 20_000
PLANE = {"two_moons": [0.3, -0.6], "gaussian_mixture": [4.0, -9.8]}
SMOOTH = ("gaussian_linear", "slcp", "bernoulli_glm")

key = lambda number=0: jax.random.key(number)
drawn = lambda name: np.asarray(TASKS[name].draw(key(3), 1)[0])


def repeated(name, theta, n=N):
    theta = jnp.tile(jnp.asarray(theta, float)[None], (n, 1))
    return theta, TASKS[name].simulate(key(5), theta)


# Every task ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_shapes_are_those_of_the_task(name):
    task = TASKS[name]
    assert task.name == name
    theta, y = joint(key(), task, 7)
    assert theta.shape == (7, task.n_parameters)
    assert y.shape == (7, task.n_data)
    for density in (task.log_prior(theta), task.log_likelihood(theta, y)):
        assert density.shape == (7,)
        assert np.isfinite(density).all()
    if task.bounds is not None:
        assert [len(bound) for bound in task.bounds] == [task.n_parameters] * 2


@pytest.mark.parametrize("name", TASKS)
def test_row_i_depends_on_the_key_and_i_alone(name):
    task = TASKS[name]
    few, many = joint(key(), task, 5), joint(key(), task, 200)
    for a, b in zip(few, many, strict=True):
        np.testing.assert_allclose(a, b[:5], rtol=1e-5, atol=1e-5)
    again = task.simulate(key(1), jnp.tile(many[0][:1], (50, 1)))
    assert len(np.unique(again, axis=0)) == 50


@pytest.mark.parametrize("name", TASKS)
def test_functions_are_the_same_under_jit(name):
    task = TASKS[name]
    theta, y = joint(key(), task, 20)
    draw = jax.jit(task.draw, static_argnums=1)
    np.testing.assert_allclose(draw(key(2), 20), task.draw(key(2), 20), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        jax.jit(task.simulate)(key(3), theta), task.simulate(key(3), theta), rtol=1e-4, atol=1e-5
    )
    found = jax.jit(task.log_likelihood)(theta, y)
    np.testing.assert_allclose(found, task.log_likelihood(theta, y), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", TASKS)
def test_one_observation_stands_for_all_rows(name):
    task = TASKS[name]
    theta, y = joint(key(), task, 6)
    found = task.log_likelihood(theta, y[2])
    np.testing.assert_array_equal(found, task.log_likelihood(theta, jnp.tile(y[2:3], (6, 1))))


@pytest.mark.parametrize("name", TASKS)
def test_rows_that_do_not_fit_are_refused(name):
    task = TASKS[name]
    theta, y = joint(key(), task, 6)
    for wrong in (y[:1], y[:5], y[:, :1], y[None]):
        with pytest.raises(ValueError, match=rf"y has shape .*; data of {name} are \[{task.n_data}\]"):
            task.log_likelihood(theta, wrong)
    for wrong in (theta[0], theta[:, :1], theta[None]):
        for function in (
            task.log_prior,
            lambda x: task.simulate(key(), x),
            lambda x: task.log_likelihood(x, y),
        ):
            with pytest.raises(ValueError, match=rf"theta has shape .*; parameters of {name} are"):
                function(wrong)


# Simulations against likelihoods ------------------------------------------------------------------


@pytest.mark.parametrize("name", PLANE)
def test_simulations_in_the_plane_have_the_stated_density(name):
    """The likelihood integrates to 1 over the data, and the CDF of each coordinate is that of simulations."""
    theta, y = repeated(name, PLANE[name])
    y = np.asarray(y, float)
    low, high = y.min(axis=0) - 0.5, y.max(axis=0) + 0.5
    points = low + (high - low) * posteriors.even(20 * N)
    theta = jnp.tile(theta[:1], (len(points), 1))
    density = np.exp(np.asarray(TASKS[name].log_likelihood(theta, points), float))
    np.testing.assert_allclose(density.mean() * np.prod(high - low), 1, rtol=0.01)
    for values, own in zip(points.T, y.T, strict=True):
        assert posteriors.distance(own, values, density / density.sum()) < 2.3 / np.sqrt(N)


@pytest.mark.parametrize("name", SMOOTH)
def test_the_likelihood_has_the_information_of_simulations(name):
    """E[s] = 0 and E[s s'] = -E[d s / d theta], where s is the gradient of the log likelihood in theta."""
    theta, y = repeated(name, drawn(name), 5000)
    value = lambda theta, y: TASKS[name].log_likelihood(theta[None], y)[0]
    slopes = np.asarray(jax.jit(jax.vmap(jax.grad(value)))(theta, y), float)
    curvature = np.asarray(jax.jit(jax.vmap(jax.hessian(value)))(theta, y), float)
    scale = slopes.std(axis=0)
    assert_mean(slopes / scale, 0.0)
    square = slopes[:, :, None] * slopes[:, None, :] + curvature
    assert_mean(square / np.outer(scale, scale), 0.0)


def test_moons_lie_at_the_radius_and_on_one_side():
    theta, y = repeated("two_moons", [0.5, 0.25])
    centre = np.array([-0.75, -0.25]) / np.sqrt(2) + [0.25, 0.0]
    u = np.asarray(y, float) - centre
    r, angle = np.linalg.norm(u, axis=1), np.arctan2(u[:, 1], u[:, 0])
    assert_mean(r, 0.1)
    assert_mean((r - 0.1) ** 2, 1e-4)
    assert scipy.stats.kstest(angle / np.pi + 0.5, "uniform").pvalue > 1e-3
    found = TASKS["two_moons"].log_likelihood(theta[:50], y[:50])
    expected = scipy.stats.norm(0.1, 0.01).logpdf(r[:50]) - np.log(np.pi * r[:50])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    # The mirrored parameters have the same likelihood; a point behind the moon has none.
    log_p = lambda theta, y: TASKS["two_moons"].log_likelihood(jnp.array([theta]), jnp.array(y))[0]
    np.testing.assert_allclose(log_p([-0.25, -0.5], y[0]), log_p([0.5, 0.25], y[0]), rtol=1e-4)
    assert log_p([0.5, 0.25], centre - [0.1, 0.0]) == -np.inf
    at_centre = jax.grad(lambda y: log_p([0.0, 0.0], y))(jnp.array([0.25, 0.0]))
    assert np.isfinite(at_centre).all()


def test_slcp_has_the_published_covariance():
    theta = np.array([[0.5, -1.0, 1.5, -1.2, 0.8]])
    s1, s2, r = 1.5**2, 1.2**2, np.tanh(0.8)
    covariance = np.array([[s1**2, r * s1 * s2], [r * s1 * s2, s2**2]])
    _, y = repeated("slcp", theta[0], 5000)
    points = np.asarray(y, float).reshape(-1, 4, 2)
    away = (points - theta[0, :2]).reshape(-1, 2)
    assert_mean(away, 0.0)
    assert_mean(away[:, :, None] * away[:, None, :], covariance)
    assert_mean(points[:, 0] * points[:, 1], theta[0, :2] ** 2)  # the four points are independent
    expected = scipy.stats.multivariate_normal(theta[0, :2], covariance).logpdf(points[:20]).sum(axis=1)
    found = TASKS["slcp"].log_likelihood(np.tile(theta, (20, 1)), y[:20])
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_slcp_is_finite_without_spread_and_when_correlated():
    theta = jnp.array([[0.0, 0.0, 0.0, 0.0, 3.0], [0.0, 0.0, 0.0, 3.0, -3.0], [3.0, -3.0, 3.0, 3.0, 3.0]])
    log_p = lambda theta: TASKS["slcp"].log_likelihood(theta, jnp.zeros(8)).sum()
    assert np.isfinite(TASKS["slcp"].simulate(key(), theta)).all()
    assert np.isfinite(jax.grad(log_p)(theta)).all()


def test_the_glm_counts_the_spikes_of_its_filter():
    theta = drawn("bernoulli_glm")
    chance = 1 / (1 + np.exp(-tasks.DESIGN.astype(float) @ theta))
    _, y = repeated("bernoulli_glm", theta, 5000)
    assert_mean(y, chance @ tasks.DESIGN)
    covariance = tasks.DESIGN.T.astype(float) @ np.diag(chance * (1 - chance)) @ tasks.DESIGN
    away = np.asarray(y, float) - chance @ tasks.DESIGN
    assert_mean(away[:, :, None] * away[:, None, :], covariance)
    spikes = np.random.default_rng(0).random((20, tasks.BINS)) < chance
    expected = scipy.stats.bernoulli.logpmf(spikes, chance).sum(axis=1)
    found = TASKS["bernoulli_glm"].log_likelihood(np.tile(theta, (20, 1)), spikes @ tasks.DESIGN)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_design_delays_the_stimulus():
    stimulus = tasks.DESIGN[:, 1]
    np.testing.assert_allclose(stimulus[:3], [0.496714, -0.138264, 0.647689], rtol=1e-5)  # as published
    assert (tasks.DESIGN[:, 0] == 1).all()
    for lag in range(tasks.LAGS):
        np.testing.assert_array_equal(tasks.DESIGN[lag:, 1 + lag], stimulus[: tasks.BINS - lag])
        assert (tasks.DESIGN[:lag, 1 + lag] == 0).all()


def test_the_prior_of_the_glm_prefers_smooth_filters():
    """The first rows of F, written out: F times the filter has variance 1."""
    theta = np.asarray(TASKS["bernoulli_glm"].draw(key(), N), float)
    assert_mean(theta[:, 0] ** 2, 2.0)
    first, second, third = theta[:, 1], theta[:, 2], theta[:, 3]
    assert_mean(first**2, 1.0)
    assert_mean(((1 + np.sqrt(1 / 9)) * second - 2 * first) ** 2, 1.0)
    assert_mean(((1 + np.sqrt(2 / 9)) * third - 2 * second + first) ** 2, 1.0)
    assert_mean(theta[:, 0] * first, 0.0)


def test_the_linear_posterior_is_half_the_observation():
    theta, y = joint(key(), TASKS["gaussian_linear"], N)
    assert_mean(np.asarray(theta) ** 2, 0.1)
    away = np.asarray(theta - y / 2, float)
    assert_mean(away**2, 0.05)
    assert_mean(away * np.asarray(y), 0.0)

"""Simulations: failed ones are dropped with a count, and coordinates fit the prior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.sbi import simulations
from experiments.sbi.tasks import TASKS, joint
from jaxscore.data import DataError


def failing(fraction):
    """Two moons, whose simulator fails for the lowest values of the first parameter."""
    task = TASKS["two_moons"]

    def simulate(key, theta):
        y = task.simulate(key, theta)
        return jnp.where(theta[:, :1] < 2 * fraction - 1, jnp.nan, y)

    return task._replace(simulate=simulate)


def test_failed_simulations_are_dropped_with_a_count():
    key = jax.random.key(0)
    whole = simulations.simulated(key, TASKS["two_moons"], 400)
    found = simulations.simulated(key, failing(0.1), 400)
    assert whole.dropped == 0
    assert found.dropped == 400 - len(found.theta)
    assert 20 < found.dropped < 60  # 40, give or take 6
    kept = whole.theta[:, 0] >= -0.8
    np.testing.assert_array_equal(found.theta, whole.theta[kept])  # the others are as they were
    np.testing.assert_array_equal(found.y, whole.y[kept])


def test_reordered_rows_have_their_points_in_every_order():
    """The likelihood of the points is the same in any order, so the network may learn from all orders."""
    task, n = TASKS["slcp"], 2400
    theta, y = joint(jax.random.key(0), task, 1)
    theta, y = jnp.repeat(theta, n, axis=0), jnp.repeat(y, n, axis=0)
    found = simulations.reordered(jax.random.key(1), y, task.points)
    np.testing.assert_allclose(task.log_likelihood(theta, found), task.log_likelihood(theta, y), rtol=1e-4)
    orders, counts = np.unique(np.asarray(found), axis=0, return_counts=True)
    assert len(orders) == 24
    assert counts.min() > 60  # 100 on average, with a standard deviation of 10
    whole = {tuple(point) for point in np.asarray(y[0]).reshape(4, 2)}
    assert {tuple(point) for row in orders for point in row.reshape(4, 2)} == whole


def test_described_points_have_their_mean_and_their_spread():
    """Far away, close together, and all in one place: nothing is lost, and nothing overflows."""
    rng = np.random.default_rng(0)
    size = np.array([1.0, 1e-3, 0.0, 30.0])[:, None, None]
    points = rng.normal(size=(4, 1, 2)) + size * rng.normal(size=(4, 5, 2))
    y, spread = points.reshape(4, 10).astype(np.float32), np.ones(2)
    found = np.asarray(simulations.described(y, 5, spread))
    mean, std, relative = found[:, :2], np.exp(found[:, 2:4]), found[:, 4:].reshape(4, 5, 2)
    np.testing.assert_allclose(mean, points.mean(axis=1), rtol=1e-5)
    exact = np.hypot(points.std(axis=1), 1e-6)
    np.testing.assert_allclose(std[[0, 1, 3]], exact[[0, 1, 3]], rtol=1e-3)
    np.testing.assert_allclose(mean[:, None] + std[:, None] * relative, points, atol=1e-5)
    np.testing.assert_allclose(relative[[0, 1, 3]].std(axis=1), 1, rtol=1e-3)
    assert np.isfinite(found).all()
    assert simulations.described(y, 1, spread).shape == (4, 10)


def test_data_that_are_one_point_keep_their_order():
    y = jax.random.normal(jax.random.key(0), (5, 6))
    assert simulations.reordered(jax.random.key(1), y, 1) is y


def test_if_all_fail_the_line_says_so():
    with pytest.raises(DataError, match="0 of 50 simulations of two_moons are finite"):
        simulations.simulated(jax.random.key(0), failing(1.0), 50)


def test_a_simulation_depends_on_its_number_alone(monkeypatch):
    """Not on how many there are, and not on the blocks in which they are made."""
    key, task = jax.random.key(1), TASKS["slcp"]
    few = simulations.simulated(key, task, 20)
    monkeypatch.setattr(simulations, "BLOCK", 16)
    many = simulations.simulated(key, task, 40)
    np.testing.assert_allclose(many.theta[:20], few.theta, rtol=1e-6)
    np.testing.assert_allclose(many.y[:20], few.y, rtol=1e-4, atol=1e-6)


def test_the_held_out_ones_are_not_trained_on():
    found = simulations.simulated(jax.random.key(2), failing(0.1), 100)
    training, held_out = simulations.split(found, 20)
    assert len(held_out.theta) == 20
    np.testing.assert_array_equal(np.concatenate([training.theta, held_out.theta]), found.theta)
    np.testing.assert_array_equal(np.concatenate([training.y, held_out.y]), found.y)
    assert training.dropped == found.dropped
    with pytest.raises(DataError, match="cannot be held out"):
        simulations.split(found, len(found.theta) - 1)


@pytest.mark.parametrize("name", ["slcp", "bernoulli_glm"])
def test_encoded_parameters_are_of_order_1_and_go_back(name):
    """A uniform prior becomes normal: all four moments, to five standard errors for 4000 draws."""
    task = TASKS[name]
    found = simulations.simulated(jax.random.key(3), task, 4000)
    coordinates = simulations.parameters(task, found.theta)
    z = np.asarray(coordinates.encode(found.theta))
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(z.std(axis=0), 1, atol=1e-4)
    np.testing.assert_allclose((z**3).mean(axis=0), 0, atol=0.31)
    np.testing.assert_allclose((z**4).mean(axis=0), 3, atol=0.8)
    np.testing.assert_allclose(coordinates.decode(z), found.theta, atol=2e-4)
    y = np.asarray(simulations.data(found.y, task.points)(found.y))
    assert np.abs(y.mean(axis=0)).max() < 1e-3

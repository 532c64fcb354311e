"""The grid of noise levels: how many there are at a step, and which are neighbours."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import consistency, noise

TABLE = {0: 11, 249: 11, 250: 21, 500: 41, 750: 81, 1000: 161, 1250: 321, 1500: 641, 1750: 1281, 1999: 1281}
"""By hand: 1280 / 10 = 128 = 2^7, so K' = 2000 / 8 = 250."""


def test_the_number_of_levels_doubles_at_even_intervals():
    steps = jnp.array(list(TABLE))
    assert jax.jit(lambda k: consistency.curriculum(k, 2000))(steps).tolist() == list(TABLE.values())
    assert consistency.curriculum(10**6, 2000) == 1281


def test_the_last_number_need_not_be_a_doubling():
    """log2(10) + 1 = 4.32, so K' = floor(1000 / 4.32) = 231."""
    found = consistency.curriculum(jnp.array([0, 230, 231, 462, 693, 923, 924, 999]), 1000, last=100)
    assert found.tolist() == [11, 11, 21, 41, 81, 81, 101, 101]
    assert consistency.curriculum(jnp.array([0, 99]), 100, first=7, last=7).tolist() == [8, 8]


@pytest.mark.parametrize("n", [2, 3, 11, 161])
def test_a_level_lies_between_its_neighbours(n):
    grid = np.asarray(noise.karras(0.01, 20.0)(jnp.linspace(0, 1, n)), float)
    sigma = jnp.asarray(np.random.default_rng(0).uniform(0.02, 19.9, 500), jnp.float32)
    lower, upper = jax.jit(lambda n, sigma: consistency.cells(n, 0.01, 20.0)(sigma))(n, sigma)
    number = np.searchsorted(grid, sigma) - 1
    np.testing.assert_allclose(lower, grid[number], rtol=1e-5)
    np.testing.assert_allclose(upper, grid[number + 1], rtol=1e-5)


def test_levels_outside_belong_to_the_first_or_the_last_cell():
    lower, upper = consistency.cells(11, 0.01, 20.0)(jnp.array([1e-4, 1e3]))
    grid = noise.karras(0.01, 20.0)(jnp.array([0.0, 0.1, 0.9, 1.0]))
    np.testing.assert_allclose([lower[0], upper[0], lower[1], upper[1]], grid, rtol=1e-5)


def test_cells_have_the_published_probabilities():
    """p(i) ~ erf((ln s_(i+1) + 1.1) / (2 sqrt 2)) - erf((ln s_i + 1.1) / (2 sqrt 2)), inside of the grid."""
    sigma = noise.lognormal(-1.1, 2.0)((jnp.arange(100_000) + 0.5) / 100_000)
    lower, _ = consistency.cells(11, 0.002, 80.0)(sigma)
    grid = noise.karras(0.002, 80.0)(jnp.linspace(0, 1, 11))
    cumulated = [math.erf((math.log(s) + 1.1) / (2 * math.sqrt(2))) / 2 for s in grid]
    counts = np.bincount(np.abs(np.asarray(lower)[:, None] - np.asarray(grid)[None, :-1]).argmin(axis=1))
    np.testing.assert_allclose(counts[1:-1] / 100_000, np.diff(cumulated)[1:-1], atol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: consistency.curriculum(0, 0), "need steps >= 1"),
        (lambda: consistency.curriculum(0, 10, first=20, last=10), "not 10, 20 and 10"),
        (lambda: consistency.cells(1, 0.01, 20.0), "n = 1 levels: an integer from 2 to 1,000,000 is"),
        (lambda: consistency.cells(10**8, 0.01, 20.0), "n = 100000000 levels"),
        (lambda: consistency.curriculum(0, 10, last=2**31), "last <= 1,000,000, not 10"),
        (lambda: consistency.cells(11, 20.0, 0.01), "sigma_min < sigma_max"),
    ],
)
def test_bad_input_is_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_numbers_of_levels_that_cannot_be_are_refused_or_nan():
    with pytest.raises(ValueError, match=r"n = 2.5 levels: an integer"):
        consistency.cells(jnp.asarray(2.5), 0.1, 10.0)
    lower, upper = jax.jit(lambda n: consistency.cells(n, 0.1, 10.0)(jnp.ones(2)))(-3)
    assert jnp.isnan(lower).all() & jnp.isnan(upper).all()

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from jaxscore import calibrate, noise, samplers
from tests.draws import assert_gaussian
from tests.grids import diagonal
from tests.samplers import oracle

# Overlap ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "dimension"), [(1.0, 3072), (1.0376, 3072), (1.05, 784), (1.2, 64), (1.668, 784)]
)
def test_the_overlap_is_the_formula_with_scipys_phi(ratio, dimension):
    shift = np.sqrt(2 * dimension) * (ratio - 1)
    # Tails rather than Phi, which has no digits left where both are nearly 1.
    expected = stats.norm.sf(shift - 3 * ratio) - stats.norm.sf(shift + 3 * ratio)
    np.testing.assert_allclose(calibrate.overlap(ratio, dimension), expected, rtol=1e-10)


def test_the_overlap_is_what_lengths_of_noise_have_in_common():
    # |sigma n| over sigma has mean sqrt(D) and variance 1/2, nearly; the paper's formula is this share.
    dimension, ratio, n = 3072, 1.03, 20_000
    lengths = np.sqrt(np.random.default_rng(0).chisquare(dimension, n))
    # The paper's interval: three standard deviations (of 1 / sqrt 2) of the larger noise about sqrt(D).
    inside = np.abs(ratio * lengths - np.sqrt(dimension)) < 3 * ratio / np.sqrt(2)
    # A share of 20,000 has a standard deviation of 0.003, and the length is not quite normal.
    np.testing.assert_allclose(inside.mean(), calibrate.overlap(ratio, dimension), atol=0.02)


@pytest.mark.parametrize(
    ("dimension", "overlap"), diagonal([5, 64, 784, 3072, 196_608], [0.01, 0.5, 0.567, 0.99])
)
def test_the_ratio_for_an_overlap_has_that_overlap(dimension, overlap):
    ratio = calibrate.ratio_for(dimension, overlap)
    assert ratio > 1
    np.testing.assert_allclose(calibrate.overlap(ratio, dimension), overlap, rtol=1e-9)


def test_more_overlap_is_more_levels():
    counts = [calibrate.level_count(0.01, 50.0, 3072, overlap) for overlap in (0.1, 0.3, 0.5, 0.567, 0.9)]
    assert counts == sorted(set(counts))
    assert counts[2:4] == [219, 232]  # 232 is the published number, and 0.5 is not its overlap


@pytest.mark.parametrize(("sigma_min", "sigma_max"), [(0.01, 50.0), (0.1, 3.0)])
def test_the_levels_of_that_count_overlap_as_asked(sigma_min, sigma_max):
    count = calibrate.level_count(sigma_min, sigma_max, 784, 0.4)
    sigmas = noise.levels(noise.geometric(sigma_min, sigma_max), count)[:-1]
    ratio = float(sigmas[0] / sigmas[1])
    # A whole number of levels: half a level more or less.
    np.testing.assert_allclose(calibrate.overlap(ratio, 784), 0.4, atol=0.01)


# Step size ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "epsilon"), diagonal([1, 2, 5, 40], [1e-7, 6.2e-6, 1.2e-4]))
def test_the_annealing_error_is_the_recursion_of_the_variance(steps, epsilon):
    sigma_min, ratio = 0.01, 1.0376
    # x <- x - epsilon x / sigma^2 + sqrt(2 epsilon) z, from the variance of the level before.
    variance = (ratio * sigma_min) ** 2
    for _ in range(steps):
        variance = variance * (1 - epsilon / sigma_min**2) ** 2 + 2 * epsilon
    found = calibrate.annealing_error(epsilon, sigma_min, ratio, steps)
    np.testing.assert_allclose(found, variance / sigma_min**2 - 1, rtol=1e-9, atol=1e-12)


def test_the_annealing_error_is_what_the_sampler_leaves():
    """This holds at every level."""
    # Data at one point, the exact score -x / sigma^2; levels so far apart that the error is large.
    sigma_min, ratio, steps = 0.5, 1.5, 3
    epsilon = 0.2 * sigma_min**2
    dynamics = samplers.repeat(samplers.langevin(samplers.annealed(epsilon, sigma_min)), steps)
    score = lambda x, sigma: -x / sigma[:, None] ** 2
    variance = (ratio**3 * sigma_min) ** 2
    x = jnp.sqrt(variance) * jax.random.normal(jax.random.key(0), (200, 500))
    sigmas = jnp.array([ratio**2, ratio, 1.0, 0.0]) * sigma_min
    path = oracle.run(dynamics, x, sigmas, score).path
    for x, sigma in zip(path, map(float, sigmas[:-1]), strict=True):
        # The error is defined for a level that begins at the variance (ratio sigma)^2: correct for the rest.
        start = variance**0.5 / sigma
        variance = sigma**2 * (1 + calibrate.annealing_error(epsilon, sigma_min, start, steps))
        assert_gaussian(x, 0, variance)


def test_the_best_step_is_scipys():
    for ratio, steps in ((1.0376, 5), (1.0045, 3), (1.5, 1), (3.0, 10)):
        found = calibrate.step_size(0.01, ratio, steps)
        error = lambda e, ratio=ratio, steps=steps: calibrate.annealing_error(e, 1.0, ratio, steps)
        expected = optimize.minimize_scalar(error, bounds=(1e-6, 1.0), options={"xatol": 1e-12}).x * 1e-4
        # A minimum is as flat as the square root of a float64's precision: 1e-8, over its curvature.
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_error_is_never_below_zero():
    grid = np.geomspace(1e-9, 1.999, 1000)
    for ratio, steps in ((1.0, 1), (1.0045, 3), (1.668, 100)):
        assert calibrate.annealing_error(grid, 1.0, ratio, steps).min() >= -1e-15


# Training noise -----------------------------------------------------------------------------------


def test_at_edms_spread_it_is_edms_noise():
    assert calibrate.training_noise(0.5) == (-1.2, 1.2)


def test_the_noise_scales_with_the_data():
    u = jnp.linspace(0.05, 0.95, 7)
    edm = noise.lognormal(*calibrate.training_noise(0.5))(u)
    np.testing.assert_allclose(noise.lognormal(*calibrate.training_noise(3.5))(u), 7 * edm, rtol=1e-5)


# The pace of the levels ---------------------------------------------------------------------------


def excess_of_noise(epsilon, ratio, steps, levels=400, dimension=2000):
    """|x| / (sigma sqrt(D)) at the end, by a score that has the norm of the level's noise whatever x has."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(dimension)
    for number in range(levels):
        sigma = ratio**-number
        for _ in range(steps):
            score = -x / np.linalg.norm(x) * np.sqrt(dimension) / sigma
            step = epsilon * sigma**2
            x = x + step * score + np.sqrt(2 * step) * rng.standard_normal(dimension)
    return np.linalg.norm(x) / np.sqrt(dimension) * ratio ** (levels - 1)


@pytest.mark.parametrize(("epsilon", "steps"), [(0.1, 5), (0.3, 2), (0.05, 1)])
def test_a_score_of_fixed_norm_keeps_up_to_a_pace_of_one(epsilon, steps):
    ratio = lambda pace: math.sqrt(1 + pace * steps * epsilon / (2 + epsilon))
    for pace in (0.8, 1.3):
        assert calibrate.pace(epsilon, 1.0, ratio(pace), steps) == pytest.approx(pace)
    # r solves pace r^2 e / (2 + e) = 2e (r - 1 - e/2): at 0.8, r = (1 - sqrt(0.2)) / 0.8 (2 + e).
    steady = (1 - math.sqrt(0.2)) / 0.8 * (2 + epsilon)
    # Steps and levels are not that small: less is left at a level's end than in the midst of it.
    assert 0.8 * steady < excess_of_noise(epsilon, ratio(0.8), steps) < 1.05 * steady
    assert excess_of_noise(epsilon, ratio(1.5), steps) > 3 * steady


def test_the_published_recipes_keep_pace():
    paces = {
        name: calibrate.pace(recipe.epsilon, recipe.sigma_min, recipe.ratio, recipe.steps)
        for name, recipe in calibrate.PRESETS.items()
    }
    assert all(0.1 < pace < 0.75 for pace in paces.values()), paces


# Refusals -----------------------------------------------------------------------------------------

REFUSED = [
    *((calibrate.ratio_for, (784, overlap), r"between 0 and 0\.997") for overlap in (-0.1, 0.0, 0.998, 1.0)),
    (calibrate.ratio_for, (784, math.nan), r"between 0 and 0\.997"),
    (calibrate.ratio_for, (4,), "at least 5"),
    (calibrate.overlap, (0.9, 784), "at least 1"),
    (calibrate.level_count, (0.0, 1.0, 784), "0 < sigma_min < sigma_max"),
    (calibrate.level_count, (1.0, 1.0, 784), "0 < sigma_min < sigma_max"),
    (calibrate.level_count, (2.0, 1.0, 784), "0 < sigma_min < sigma_max"),
    (calibrate.annealing_error, (0.0, 0.01, 1.03, 5), "between 0 and 2 sigma_min"),
    (calibrate.annealing_error, (2e-4, 0.01, 1.03, 5), "between 0 and 2 sigma_min"),
    (calibrate.annealing_error, (1e-6, 0.01, 0.9, 5), "ratio >= 1"),
    (calibrate.annealing_error, (1e-6, 0.01, 1.03, 0), "steps >= 1"),
    (calibrate.step_size, (0.01, 1.0, 5), "ratio > 1"),
    (calibrate.step_size, (0.0, 1.03, 5), "ratio > 1"),
    (calibrate.step_size, (0.01, 1.03, 0), "steps >= 1"),
    *((calibrate.training_noise, (spread,), "must be positive") for spread in (0.0, -1.0, math.nan)),
]


@pytest.mark.parametrize(("function", "arguments", "message"), REFUSED)
def test_what_cannot_be_is_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)

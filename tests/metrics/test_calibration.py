import inspect

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxscore import metrics

# theta ~ N(0, I) in the plane and y ~ N(theta, NOISE), so the posterior is N(GAIN y, ROOT ROOT^T).
NOISE = 0.25 * np.array([[1, 0.95], [0.95, 1]])
COVARIANCE = np.linalg.inv(np.eye(2) + np.linalg.inv(NOISE))
GAIN, ROOT = COVARIANCE @ np.linalg.inv(NOISE), np.linalg.cholesky(COVARIANCE)
SD = np.sqrt(np.diag(COVARIANCE))
DRAWS = 100


def simulations(n, rng):
    """Truths [n, 2] and observations [n, 2]."""
    truths = rng.standard_normal((n, 2))
    return truths, truths + rng.standard_normal((n, 2)) @ np.linalg.cholesky(NOISE).T


def posterior(y, rng, root=ROOT, shift=0.0, gain=GAIN, draws=DRAWS):
    """Draws [n, k, 2] from N(gain y + shift standard deviations, root root^T), and this log density."""
    mean = y @ gain.T + shift * SD
    noise = rng.standard_normal((len(y), draws, 2))
    whiten = lambda theta: (theta - mean) @ np.linalg.inv(root).T
    return mean[:, None] + noise @ root.T, lambda theta: -0.5 * np.sum(whiten(theta) ** 2, axis=1)


def three_ranks(n, rng, seed=0, draws=DRAWS, **fault):
    """Ranks of n simulations by the three checks of one posterior."""
    truths, y = simulations(n, rng)
    drawn, log_p = posterior(y, rng, draws=draws, **fault)
    of_draws = np.stack([log_p(drawn[:, i]) for i in range(draws)], axis=1)
    return {
        "sbc": metrics.sbc_ranks(truths, drawn, seed=seed),
        "tarp": metrics.tarp_ranks(truths, drawn, seed=seed),
        "density": metrics.density_ranks(log_p(truths), of_draws, seed=seed),
    }


def p_values(ranks, n):
    """p-value of each repetition of n simulations."""
    each = metrics.uniformity(np.stack(np.split(ranks, len(ranks) // n), axis=1)).p_values
    return np.minimum(1, each.reshape(len(each), -1).min(axis=1) * ranks[0].size)


# Power ----------------------------------------------------------------------------------------------

BLIND, SEEN = (0.0, 0.112), (0.9, 1.0)
FAULTS = {
    "none": ({}, [BLIND] * 5),
    "narrow": ({"root": 0.6 * ROOT}, [SEEN] * 5),
    "wide": ({"root": 1.7 * ROOT}, [SEEN] * 5),
    "shifted": ({"shift": 0.3}, [SEEN] + [(0.0, 0.15)] * 4),
    "uncorrelated": ({"root": np.diag(SD)}, [BLIND, (0.2, 0.47), SEEN, BLIND, (0.6, 0.85)]),
    "prior": ({"root": np.eye(2), "gain": np.zeros((2, 2))}, [BLIND] * 5),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_power_of_the_checks(fault):
    """Fractions of tests with a p-value below 0.05, each of 200 simulations with 100 draws.

        posterior                                           sbc   tarp  density  |2 sbc - 1|  |2 tarp - 1|
        none: exact                                        0.04   0.05     0.05         0.04          0.05
        narrow: 0.6 times its standard deviations          1.00   1.00     1.00         1.00          1.00
        wide: 1.7 times its standard deviations            1.00   1.00     1.00         1.00          1.00
        shifted: by 0.3 standard deviations                0.95   0.07     0.07         0.08          0.08
        uncorrelated: the right marginals only             0.05   0.33     0.97         0.05          0.72
        prior: the same for all observations               0.06   0.05     0.05         0.05          0.05

    The table comes from 1000 tests or more, and there are 200 tests here. A fraction of 0.05 has a standard
    error of 0.0154, and a blind check lies below 0.05 + 4 of those. The limits of the other fractions that
    are not near 1 are 4 standard errors too.
    """
    settings, limits = FAULTS[fault]
    ranks = three_ranks(200 * 200, np.random.default_rng(0), **settings)
    ranks |= {f"|2 {name} - 1|": np.abs(2 * ranks[name] - 1) for name in ("sbc", "tarp")}
    for name, (low, high) in zip(ranks, limits, strict=True):
        p = p_values(ranks[name], 200)
        assert low <= np.mean(p < 0.05) <= high, (name, np.mean(p < 0.05))
        if fault == "none" and "sbc" not in name:  # Bonferroni's p-values may be larger than uniform ones
            assert scipy.stats.kstest(p, "uniform").pvalue > 0.001


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("spread", [0.05, 0.5, 1, 2])
def test_a_hundred_simulations_show_a_wrong_spread(spread, d):
    """The three p-values are below 0.01 except for a spread of 1, and the coverage says which way."""
    rng = np.random.default_rng(1)
    truths, noise = rng.standard_normal((2, 100, d))
    mean, sd = (truths + 0.5 * noise) / 1.25, 0.5 / 1.25**0.5
    drawn = mean[:, None] + spread * sd * rng.standard_normal((100, DRAWS, d))
    log_p = lambda theta: -np.sum((theta - mean.reshape(100, *[1] * (theta.ndim - 2), d)) ** 2, axis=-1)
    tarp = metrics.tarp_ranks(truths, drawn)
    density = metrics.density_ranks(log_p(truths), log_p(drawn))
    # Without abs(2 ranks - 1), one test in ten of a single parameter has a larger p-value.
    sbc = metrics.sbc_ranks(truths, drawn)
    for ranks in (np.abs(2 * tarp - 1), density, np.abs(2 * sbc - 1)):
        assert (metrics.uniformity(ranks).p_value < 0.01) == (spread != 1)
        z = metrics.coverage_at(ranks, (0.5,), central=False).z
        # A spread of 0.5 or 2 moves the coverage of 0.5 by 0.24 or more, which is 4.8 standard errors.
        assert np.all(np.abs(z) < 3 if spread == 1 else np.sign(z) == np.sign(spread - 1))


def test_references_on_one_side_show_a_shift():
    rng = np.random.default_rng(0)
    truths, y = simulations(200 * 50, rng)
    drawn, _ = posterior(y, rng, shift=0.3)
    far = metrics.tarp_ranks(truths, drawn, np.full_like(truths, 10.0))
    assert np.mean(p_values(far, 200) < 0.05) > 0.8


def test_the_observation_shows_a_posterior_that_ignores_it():
    """References that depend on the observation, and the rank of a function of parameters and observation."""
    rng = np.random.default_rng(0)
    truths, y = simulations(200 * 50, rng)
    prior, _ = posterior(y, rng, root=np.eye(2), gain=np.zeros((2, 2)))
    exact, _ = posterior(y, rng)
    near = y + rng.standard_normal(y.shape)
    of_both = lambda theta: -np.sum((theta - y.reshape(len(y), *[1] * (theta.ndim - 2), 2)) ** 2, axis=-1)
    for drawn, (low, high) in ((prior, SEEN), (exact, (0.0, 0.05 + 4 * 0.031))):  # standard error in 50 tests
        for ranks in (
            metrics.tarp_ranks(truths, drawn, near),
            metrics.sbc_ranks(of_both(truths)[:, None], of_both(drawn)[..., None]),
        ):
            assert low <= np.mean(p_values(ranks, 200) < 0.05) <= high


# Ranks ----------------------------------------------------------------------------------------------


def test_ranks_are_counts():
    """One simulation at a time; what is added for ties is less than one draw here."""
    rng = np.random.default_rng(0)
    truths, y = simulations(60, rng)
    drawn, log_p = posterior(y, rng, draws=13)
    of_draws = np.stack([log_p(drawn[:, i]) for i in range(13)], axis=1)
    references = rng.standard_normal((60, 2))
    together = np.concatenate([truths[:, None], drawn], axis=1).reshape(-1, 2)
    low, high = np.quantile(together, [0.01, 0.99], axis=0)
    sbc = metrics.sbc_ranks(truths, drawn)
    tarp = metrics.tarp_ranks(truths, drawn, references)
    density = metrics.density_ranks(log_p(truths), of_draws)
    for i in range(60):
        below = [sum(drawn[i, :, j] < truths[i, j]) for j in range(2)]
        np.testing.assert_array_equal(np.floor(14 * sbc[i]), below)
        apart = lambda theta, i=i: np.linalg.norm((theta - references[i]) / (high - low), axis=-1)
        assert np.floor(14 * tarp[i]) == np.sum(apart(drawn[i]) < apart(truths[i]))
        assert np.floor(14 * density[i]) == np.sum(of_draws[i] > log_p(truths)[i])


@pytest.mark.parametrize("draws", [1, 2, 30])
def test_ranks_of_exact_posteriors_are_exactly_uniform(draws):
    """Also for few draws, and for the few simulations from which the box of `tarp_ranks` is made."""
    rng = np.random.default_rng(draws)
    sets = [three_ranks(5, rng, seed, draws) for seed in range(1000)]
    for name in ("sbc", "tarp", "density"):
        ranks = np.concatenate([each[name] for each in sets])
        found = metrics.uniformity(ranks)
        # The smallest of 12 p-values is below 0.001 once in 80 seeds; the seed is fixed.
        assert np.min(found.p_values) > 0.001, name
        assert ranks.min() >= 0
        assert ranks.max() <= 1


def test_ranks_of_discrete_parameters_are_uniform():
    """Truths and draws are counts 0 to 3, so that most draws are ties."""
    rng = np.random.default_rng(0)
    truths, drawn = rng.integers(4, size=(5000, 2)), rng.integers(4, size=(5000, 7, 2))
    density = metrics.density_ranks(1.0 * truths[:, 0], 1.0 * drawn[..., 0])
    sbc = metrics.sbc_ranks(truths, drawn)
    for ranks in (sbc, metrics.tarp_ranks(truths, drawn), density):
        assert metrics.uniformity(ranks).p_value > 0.001
    below = np.sum(drawn < truths[:, None], axis=1)
    equal = np.sum(drawn == truths[:, None], axis=1)
    assert np.all(below <= 8 * sbc)
    assert np.all(8 * sbc < below + equal + 1)


def test_the_seed_decides():
    rng = np.random.default_rng(0)
    truths, y = simulations(50, rng)
    drawn, log_p = posterior(y, rng)
    for ranks in (
        lambda seed: metrics.sbc_ranks(truths, drawn, seed=seed),
        lambda seed: metrics.tarp_ranks(truths, drawn, seed=seed),
        lambda seed: metrics.density_ranks(log_p(truths), drawn[..., 0], seed=seed),
    ):
        np.testing.assert_array_equal(ranks(3), ranks(3))
        assert np.all(ranks(3) != ranks(4))


def test_references_too_far_away_are_refused():
    """All distances are equal there, and ranks would be those of ties: uniform, whatever the posterior."""
    truths, drawn = np.zeros((10, 2)), np.random.default_rng(0).standard_normal((10, 20, 2))
    with pytest.raises(ValueError, match=r"references lie more than 1e\+12 widths away"):
        metrics.tarp_ranks(truths, drawn, np.full((10, 2), 1e17))


def test_references_are_not_drawn_as_the_caller_draws_truths():
    """A reference that repeats the truth is nearer to it than to any draw."""
    truths = np.random.default_rng(0).uniform(size=(500, 2))
    drawn = np.random.default_rng(1).uniform(size=(500, DRAWS, 2))
    assert metrics.uniformity(metrics.tarp_ranks(truths, drawn, seed=0)).p_value > 0.01


# References and units -------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0.6, 1.0])
def test_own_references_are_like_random_ones(width):
    """The same distribution of ranks, for posteriors that are exact and for narrow ones."""
    rng = np.random.default_rng(0)
    truths, y = simulations(4000, rng)
    drawn, _ = posterior(y, rng, root=width * ROOT)
    random = metrics.tarp_ranks(truths, drawn, seed=1)
    low, high = np.quantile(truths, [0.01, 0.99], axis=0)
    own = metrics.tarp_ranks(truths, drawn, rng.uniform(low, high, truths.shape), seed=2)
    assert scipy.stats.ks_2samp(random, own).pvalue > 0.01


def test_units_of_the_parameters_do_not_matter():
    """Powers of two, which rounding does not see; given references are scaled with the truths."""
    rng = np.random.default_rng(0)
    truths, y = simulations(300, rng)
    drawn, _ = posterior(y, rng, root=0.6 * ROOT)
    units, references = np.array([2.0**20, 2.0**-10]), rng.standard_normal((300, 2))
    ranks = lambda units, *given: metrics.tarp_ranks(truths * units, drawn * units, *given)
    np.testing.assert_array_equal(ranks(units), ranks(1.0))
    np.testing.assert_array_equal(ranks(units, references * units), ranks(1.0, references))
    assert np.any(ranks(units, references) != ranks(1.0, references))


def test_arrays_of_jax_have_the_same_ranks():
    rng = np.random.default_rng(0)
    truths, drawn = rng.random((9, 2), np.float32), rng.random((9, 5, 2), np.float32)
    for function in (metrics.sbc_ranks, metrics.tarp_ranks):
        expected = function(truths, drawn)
        assert expected.dtype == np.float64
        np.testing.assert_array_equal(function(jnp.asarray(truths), jnp.asarray(drawn)), expected)


def test_an_outlier_among_the_draws_does_not_stretch_the_box():
    rng = np.random.default_rng(0)
    truths, y = simulations(200, rng)
    drawn, _ = posterior(y, rng, root=0.3 * ROOT)
    expected = metrics.tarp_ranks(truths, drawn)
    drawn[0, 0] = 1e12
    assert np.max(np.abs(metrics.tarp_ranks(truths, drawn) - expected)) < 0.05


def test_a_constant_parameter_does_not_change_ranks():
    rng = np.random.default_rng(0)
    truths, drawn, references = rng.random((50, 2)), rng.random((50, 9, 2)), rng.random((50, 2))
    constant = lambda theta: np.concatenate([theta, np.full((*theta.shape[:-1], 1), 0.1)], axis=-1)
    expected = metrics.tarp_ranks(truths, drawn, references)
    found = metrics.tarp_ranks(*map(constant, (truths, drawn, references)))
    np.testing.assert_array_equal(found, expected)
    assert np.isfinite(metrics.tarp_ranks(constant(truths), constant(drawn))).all()


@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_a_parameter_that_is_mostly_constant_has_a_unit(value):
    """In its central 98 % the parameter is 0, so its unit is the whole range."""
    rng = np.random.default_rng(0)
    rare = value * (rng.random((2000, 1 + DRAWS)) < 0.002)
    together = np.stack([rare, rng.standard_normal((2000, 1 + DRAWS))], axis=2)
    ranks = lambda units: metrics.tarp_ranks(together[:, 0] * units, together[:, 1:] * units)
    np.testing.assert_array_equal(ranks(np.array([2.0**-20, 1.0])), ranks(1.0))
    assert metrics.uniformity(ranks(1.0)).p_value > 0.001


def test_a_truth_of_density_0_is_ranked_last():
    ranks = metrics.density_ranks(np.array([-np.inf, 0.0]), np.array([[0.0, -5.0], [-np.inf, -np.inf]]))
    np.testing.assert_array_equal(np.floor(3 * ranks), [2, 0])


# Tests of ranks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [7, 300])
def test_uniformity_is_scipys_test_of_each_column(n):
    rng = np.random.default_rng(0)
    ranks = rng.random((n, 2, 3)) ** 1.2
    found = metrics.uniformity(ranks)
    for where in np.ndindex(2, 3):
        expected = scipy.stats.kstest(ranks[:, *where], "uniform")
        np.testing.assert_allclose(found.statistic[where], expected.statistic, rtol=1e-12)
        np.testing.assert_allclose(found.p_values[where], expected.pvalue, rtol=1e-9)
    assert found.p_value == min(1, 6 * found.p_values.min())
    one = metrics.uniformity(ranks[:, 0, 0])
    assert one == (found.statistic[0, 0], found.p_values[0, 0], found.p_values[0, 0])


def test_fewest_ranks_can_show_a_posterior_of_no_width():
    assert metrics.uniformity(np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0])).p_value < 0.05
    assert scipy.stats.kstwo.sf(0.5, 7) < 0.05 < scipy.stats.kstwo.sf(0.5, 6)


def test_coverage_is_a_fraction_with_its_error():
    ranks = np.array([0.0, 0.05, 0.3, 0.45, 0.6, 0.7, 0.85, 0.99, 0.1, 0.5])
    inside = metrics.coverage_at(ranks, (0.5, 0.8), central=False)
    np.testing.assert_allclose(inside.level, [0.5, 0.8])
    np.testing.assert_allclose(inside.fraction, [0.6, 0.8])
    np.testing.assert_allclose(inside.error, [np.sqrt(0.025), np.sqrt(0.016)])
    np.testing.assert_allclose(inside.z, [0.1 / np.sqrt(0.025), 0], atol=1e-12)
    # Central regions of 0.5 and 0.75: ranks from 0.25 to 0.75, and from 0.125 to 0.875.
    np.testing.assert_allclose(metrics.coverage_at(ranks, (0.5, 0.75), central=True).fraction, [0.5, 0.6])
    columns = np.stack([ranks, 0 * ranks], axis=1)
    found = metrics.coverage_at(columns, (0.5, 0.8), central=False)
    np.testing.assert_allclose(found.fraction, [[0.6, 1], [0.8, 1]])
    np.testing.assert_allclose(found.z[:, 0], inside.z)
    np.testing.assert_allclose(found.z[:, 1], [0.5 / np.sqrt(0.025), 0.2 / np.sqrt(0.016)])


def test_the_sign_of_coverage_tells_narrow_from_wide():
    for width, sign in ((0.6, -1), (1.7, 1)):
        for name, ranks in three_ranks(400, np.random.default_rng(0), root=width * ROOT).items():
            z = metrics.coverage_at(ranks, (0.5, 0.8), central=name != "density").z
            assert np.all(sign * z > 3), (name, z)


def test_z_of_exact_posteriors_is_standard():
    """Mean 0 and standard deviation 1 over 500 sets of 80 simulations."""
    ranks = three_ranks(80 * 500, np.random.default_rng(0), draws=20)["density"].reshape(500, 80).T
    z = metrics.coverage_at(ranks, central=False).z
    # 4 standard errors, of a mean and of a standard deviation.
    np.testing.assert_allclose(z.mean(axis=1), 0, atol=4 / np.sqrt(500))
    np.testing.assert_allclose(z.std(axis=1), 1, atol=4 / np.sqrt(1000))


# Refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_simulations_that_are_not_finite_are_counted(bad):
    """A nan compares as false with everything, so its rank would be 0."""
    rng = np.random.default_rng(0)
    clean, drawn = rng.random((100, 2)), rng.random((100, 5, 2))
    truths, draws, references = clean.copy(), drawn.copy(), clean.copy()
    truths[[3, 50], 1] = draws[3, 0, 0] = draws[17, 2:, 1] = references[[3, 17, 50], 0] = bad
    calls = [
        lambda: metrics.sbc_ranks(truths, draws),
        lambda: metrics.tarp_ranks(truths, draws),
        lambda: metrics.tarp_ranks(clean, drawn, references),
        lambda: metrics.uniformity(references),
        lambda: metrics.coverage_at(references, central=True),
    ]
    if bad != -np.inf:
        calls.append(lambda: metrics.density_ranks(truths[:, 1], draws[:, :, 1]))
    for call in calls:
        message = "3 of 100 simulations have values that are not finite; drop them, as training did"
        with pytest.raises(ValueError, match=message):
            call()
    good = np.delete(np.arange(100), [3, 17, 50])
    assert metrics.sbc_ranks(truths[good], draws[good]).shape == (97, 2)


@pytest.mark.parametrize(
    ("truths", "draws"),
    [
        ((10,), (10, 5)),
        ((10, 2), (10, 5)),
        ((10, 2), (5, 10, 2)),
        ((10, 2), (10, 5, 1)),
        ((1, 2), (10, 5, 2)),
        ((10, 2), (10, 0, 2)),
        ((0, 2), (0, 5, 2)),
        ((10, 0), (10, 5, 0)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(truths, draws):
    """Unwrapped, because the tests' type checker refuses some of them before the function does."""
    for function in (metrics.sbc_ranks, metrics.tarp_ranks):
        with pytest.raises(ValueError, match=r"must be \[n, d\] and \[n, k, d\], all at least 1"):
            inspect.unwrap(function)(np.zeros(truths), np.zeros(draws))


def test_other_shapes_that_do_not_fit_are_refused():
    density, tarp = inspect.unwrap(metrics.density_ranks), inspect.unwrap(metrics.tarp_ranks)
    for truths, draws in (((10,), (5, 10)), ((10, 1), (10, 5)), ((10,), (10, 0)), ((1,), (10, 5))):
        with pytest.raises(ValueError, match=r"must be \[n\] and \[n, k\], all at least 1"):
            density(np.zeros(truths), np.zeros(draws))
    with pytest.raises(ValueError, match=r"references have shape \(1, 2\) and truths \(10, 2\)"):
        tarp(np.zeros((10, 2)), np.zeros((10, 5, 2)), np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        (np.full(6, 0.5), "at least 7"),
        (np.zeros((9, 0)), "at least 7"),
        (np.arange(9.0), "from 0.0 to 8.0 must lie between 0 and 1"),
    ],
)
def test_what_is_no_set_of_ranks_is_refused(ranks, message):
    for function in (metrics.uniformity, lambda ranks: metrics.coverage_at(ranks, central=True)):
        with pytest.raises(ValueError, match=message):
            function(ranks)


@pytest.mark.parametrize("levels", [(), (0.0,), (1.0,), (95.0,), (float("nan"),)])
def test_levels_outside_0_to_1_are_refused(levels):
    with pytest.raises(ValueError, match="levels"):
        metrics.coverage_at(np.full(9, 0.5), levels, central=False)

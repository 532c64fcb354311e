import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.spatial.distance import cdist

from jaxscore import metrics, sharding

RNG = np.random.default_rng(0)
TRAIN, HELD_OUT, FRESH = (RNG.standard_normal((n, 3)) for n in (1000, 400, 500))


def test_memorisation_is_what_the_definitions_say():
    found = metrics.memorisation(0.8 * FRESH, TRAIN, HELD_OUT, quantile=0.1)
    ours, theirs = cdist(0.8 * FRESH, TRAIN).min(axis=1), cdist(HELD_OUT, TRAIN).min(axis=1)
    assert found.ratio == pytest.approx(np.median(ours) / np.median(theirs))
    assert found.nearer == np.mean(ours < np.quantile(theirs, 0.1))
    test = scipy.stats.mannwhitneyu(ours, theirs, use_continuity=False, method="asymptotic")
    assert found.z < 0
    assert 2 * scipy.stats.norm.cdf(found.z) == pytest.approx(test.pvalue, rel=1e-9)
    mesh = sharding.mesh()
    assert metrics.memorisation(0.8 * FRESH, TRAIN, HELD_OUT, quantile=0.1, mesh=mesh) == found


def test_ties_count_half():
    train = np.zeros((1, 1))
    samples, held_out = np.array([[0.0], [1.0], [2.0]]), np.array([[1.0], [1.0]])
    # Of 6 pairs 2 are further, 2 tie.
    expected = (2 + 2 / 2 - 3) / np.sqrt(3 * 2 * 6 / 12)
    assert metrics.memorisation(samples, train, held_out).z == pytest.approx(expected)


def test_z_is_standard_normal_for_fresh_samples():
    # The training set differs from draw to draw: shared, it would favour neither side either.
    draws = [RNG.standard_normal((3, 100, 2)) for _ in range(300)]
    found = [metrics.memorisation(*sets) for sets in draws]
    z = np.array([each.z for each in found])
    # 4 standard errors: 1/sqrt(300) for the mean, 1/sqrt(600) for the deviation.
    assert abs(z.mean()) < 4 / np.sqrt(300)
    assert abs(z.std() - 1) < 4 / np.sqrt(600)
    # The quantile is itself of 100 draws: a deviation of about sqrt(2 x .05 x .95 / 100) = 0.03 each.
    assert np.mean([each.nearer for each in found]) == pytest.approx(0.05, abs=4 * 0.03 / np.sqrt(300) + 0.01)


def test_copies_show():
    copies = metrics.memorisation(TRAIN[:300], TRAIN, HELD_OUT)
    assert copies[:2] == (0.0, 1.0)
    assert copies.z < -20
    # Every fifth sample a copy, the others bad: the median and the ranks do not see it.
    some = np.concatenate([TRAIN[:100], 1.5 * FRESH[:400]])
    mixed = metrics.memorisation(some, TRAIN, HELD_OUT)
    assert mixed.ratio > 1
    assert mixed.z > -2
    assert mixed.nearer > 0.2


@pytest.mark.parametrize("quantile", [0.0, 1.0, -1.0])
def test_a_quantile_beyond_0_and_1_is_refused(quantile):
    with pytest.raises(ValueError, match="quantile"):
        metrics.memorisation(FRESH, TRAIN, HELD_OUT, quantile=quantile)


def test_a_ratio_to_nothing_is_infinite_or_no_number_and_no_warning():
    assert metrics.memorisation(FRESH, TRAIN, TRAIN).ratio == np.inf
    assert np.isnan(metrics.memorisation(TRAIN, TRAIN, TRAIN).ratio)


@pytest.mark.parametrize("mesh", [None, sharding.mesh()], ids=["no mesh", "eight"])
def test_the_ratio_is_zero_for_copies_and_one_for_fresh_draws(mesh):
    data, fresh = RNG.standard_normal((2, 2000, 3))
    assert metrics.nearest_neighbour_ratio(data[:500], data, mesh=mesh) == 0.0
    # The median of 2000 distances is known to a few per cent.
    assert metrics.nearest_neighbour_ratio(fresh, data, mesh=mesh) == pytest.approx(1.0, abs=0.1)
    nearly = data[:500] + 1e-3 * fresh[:500]
    assert metrics.nearest_neighbour_ratio(nearly, data, mesh=mesh) < 0.02


def test_jax_arrays_are_taken_as_they_are():
    train = jnp.asarray(TRAIN, jnp.float32)
    assert metrics.nearest_neighbour_ratio(train, train) == 0.0
    found = metrics.memorisation(jnp.asarray(FRESH, jnp.float32), train, jnp.asarray(HELD_OUT, jnp.float32))
    np.testing.assert_allclose(found, metrics.memorisation(FRESH, TRAIN, HELD_OUT), rtol=1e-3)

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from jaxscore import metrics, sharding
from tests.draws import assert_gaussian, assert_mean
from tests.grids import diagonal

RNG = np.random.default_rng(0)
TRAIN, HELD_OUT, FRESH = (RNG.standard_normal((n, 3)) for n in (1000, 400, 500))


def test_memorisation_is_what_the_definitions_say():
    samples = np.concatenate([0.8 * FRESH, TRAIN[:50]])
    found = metrics.memorisation(samples, TRAIN, HELD_OUT)
    all_examples = np.concatenate([TRAIN, HELD_OUT])
    number = cdist(samples, all_examples).argmin(axis=1)
    assert found.share == np.mean(number < 1000)
    assert found.expected == 1000 / 1400
    assert found.excess == pytest.approx((found.share - 1000 / 1400) / (400 / 1400))
    # Against splits at random, which the variance is of.
    rng = np.random.default_rng(1)
    shares = [np.mean(rng.permutation(1400)[number] < 1000) for _ in range(4000)]
    # The deviation of 4000 draws is known to 1.1 %: 4 of those.
    assert found.z == pytest.approx((found.share - 1000 / 1400) / np.std(shares), rel=0.045)
    assert metrics.memorisation(samples, TRAIN, HELD_OUT, mesh=sharding.mesh()) == found


def test_ties_count_half():
    train, held_out = np.array([[0.0], [4.0]]), np.array([[2.0], [9.0]])
    samples = np.array([[0.0], [1.0], [2.0], [3.5]])
    assert metrics.memorisation(samples, train, held_out)[:3] == (2.5 / 4, 0.5, 0.25)


@pytest.mark.parametrize(("scale", "h"), diagonal([0.3, 1.0, 3.0], [80, 20]))
def test_samples_that_know_nothing_of_the_split_are_no_copies(scale, h):
    """This holds however bad the samples are: blurred by a scale of 0.3, spread out by one of 3."""
    rng = np.random.default_rng(2)
    found = []
    for _ in range(300):
        samples, split = scale * rng.standard_normal((150, 3)), rng.standard_normal((80 + h, 3))
        found.append(metrics.memorisation(samples, split[:80], split[80:]))
    # z has mean 0 and deviation 1 for every set of samples over its splits.
    assert_gaussian([each.z for each in found], 0, 1)
    assert_mean([each.excess for each in found], 0)


def test_copies_show_among_bad_samples_too():
    copies = metrics.memorisation(TRAIN[:300], TRAIN, HELD_OUT)
    assert copies.share == copies.excess == 1
    assert copies.z > 8
    # Every fifth sample a copy, the others bad: excess is the share of copies, to within 3 deviations.
    some = np.concatenate([TRAIN[:400], 1.5 * np.random.default_rng(3).standard_normal((1600, 3))])
    mixed = metrics.memorisation(some, TRAIN[:400], HELD_OUT)
    assert mixed.excess == pytest.approx(0.2, abs=3 * mixed.excess / mixed.z)
    assert mixed.z > 2.5


def test_memorisation_needs_examples_of_both_kinds():
    for some in ((TRAIN[:0], HELD_OUT), (TRAIN, HELD_OUT[:0])):
        with pytest.raises(ValueError, match="neighbour"):
            metrics.memorisation(FRESH, *some)


def test_the_ratio_to_nothing_is_infinite_or_no_number():
    """NumPy gives no warning."""
    twice = np.concatenate([TRAIN, TRAIN])
    assert metrics.nearest_neighbour_ratio(FRESH, twice) == np.inf
    assert np.isnan(metrics.nearest_neighbour_ratio(TRAIN, twice))


@pytest.mark.parametrize("mesh", [None, sharding.mesh()], ids=["no mesh", "eight"])
def test_the_ratio_is_zero_for_copies_and_one_for_fresh_draws(mesh):
    data, fresh = RNG.standard_normal((2, 2000, 3))
    assert metrics.nearest_neighbour_ratio(data[:500], data, mesh=mesh) == 0.0
    # The median of 2000 distances is known to a few per cent.
    assert metrics.nearest_neighbour_ratio(fresh, data, mesh=mesh) == pytest.approx(1.0, abs=0.1)
    nearly = data[:500] + 1e-3 * fresh[:500]
    assert metrics.nearest_neighbour_ratio(nearly, data, mesh=mesh) < 0.02

import itertools

import numpy as np
import pytest
import scipy.stats

from jaxscore import metrics
from tests.grids import diagonal, rest

RNG = np.random.default_rng(0)


def share(found, truth):
    """The share of intervals that contain the truth."""
    return np.mean([low <= truth <= high for *_, low, high in found])


def mean(x):
    return float(np.mean(x))


# Intervals of a mean, where everything is known -----------------------------------------------------


@pytest.mark.parametrize(
    ("method", "level"), diagonal([metrics.interval, metrics.half_samples, metrics.over_blocks], [0.8, 0.95])
)
def test_an_interval_contains_a_mean_as_often_as_it_says(method, level):
    """The mean is that of a Gaussian."""
    found = [method(mean, RNG.standard_normal((60, 1)) + 3, level=level) for _ in range(400)]
    # 4 standard errors of a share of 400; percentiles of 60 draws and of 200 resamples are a bit narrow.
    error = 4 * np.sqrt(level * (1 - level) / 400)
    assert level - error - 0.015 < share(found, 3) < level + error
    assert all(low < value < high for value, low, high in found)


@pytest.mark.parametrize("method", [metrics.interval, metrics.half_samples])
@pytest.mark.parametrize("sizes", [(500,), (300, 100)])
def test_the_width_is_that_of_the_standard_error(method, sizes):
    """Each of several sets is resampled by itself."""
    sets = [RNG.standard_normal(n) + n for n in sizes]
    total = lambda *sets: sum(float(x.mean()) for x in sets)
    value, low, high = method(total, *sets, resamples=4000)
    assert value == total(*sets)
    error = np.sqrt(sum(x.var() / len(x) for x in sets))
    # The deviation of 4000 draws is known to 1.1 %, their percentiles to about twice that.
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.08)


def test_halves_of_several_statistics_are_those_of_each():
    x = RNG.standard_normal(40)
    both = metrics.half_samples(lambda x: np.array([x.mean(), x.std()]), x, resamples=30)
    each = [metrics.half_samples(statistic, x, resamples=30) for statistic in (np.mean, np.std)]
    np.testing.assert_allclose(np.stack(both, axis=1), each)


def test_the_seed_decides():
    x = RNG.standard_normal((40, 2))
    for method in (metrics.interval, metrics.half_samples, metrics.over_blocks):
        assert method(mean, x, seed=3) == method(mean, x, seed=3) != method(mean, x, seed=4)


# Where a plain bootstrap is wrong -------------------------------------------------------------------


def recall(samples, data):
    return float(np.mean(metrics.balls(data, samples, neighbours=3) > 0))


@pytest.mark.parametrize(("statistic", "n", "shift"), [(metrics.kid, 60, 0.3), rest(recall, 100, 0.7)])
def test_halves_are_right_where_copies_make_a_bootstrap_wrong(statistic, n, shift):
    rng = np.random.default_rng(1)

    def draw():
        return rng.standard_normal((n, 3)) + shift, rng.standard_normal((n, 3))

    truth = np.mean([statistic(*draw()) for _ in range(300)])
    sets = [draw() for _ in range(40)]
    halves = [metrics.half_samples(statistic, *each, resamples=25) for each in sets]
    plain = [metrics.interval(statistic, *each, resamples=25) for each in sets]
    # The standard error of a share of 40 is 0.035 at 0.95, and 25 draws know a deviation to 14 %.
    assert share(halves, truth) >= 0.85
    # Halves are about the values; a bootstrap lies to one side by a good part of its width.
    off = np.mean([(low + high) / 2 - value for value, low, high in plain])
    width = np.mean([high - low for _, low, high in plain])
    assert abs(off) > 0.2 * width
    assert share(plain, truth) < share(halves, truth)


@pytest.mark.parametrize("distance", [metrics.kid, metrics.frechet])
def test_halves_of_one_distribution_are_too_wide_by_root_3(distance):
    """The width is too large by no more than root 3."""
    rng = np.random.default_rng(2)
    draws = [rng.standard_normal((2, 80, 4)) for _ in range(300)]
    spread = 1.96 * np.std([distance(*each) for each in draws])
    found = [metrics.half_samples(distance, *each, resamples=40) for each in draws[:30]]
    reach = np.sqrt(np.mean([((high - low) / 2) ** 2 for _, low, high in found]))
    # The spread of 300 values with heavy tails is known to about 6 %, the reach to about 8 %.
    assert 0.9 < reach / spread < 1.2 * np.sqrt(3)


def test_halves_of_a_frechet_distance_are_about_its_value():
    """The values of a bootstrap lie above it."""
    samples, data = RNG.standard_normal((2, 150, 8))
    value, low, high = metrics.half_samples(metrics.frechet, samples, data, resamples=50)
    assert (low + high) / 2 == pytest.approx(value)
    assert low < value < high
    # Of one distribution the distance is all bias, which the bootstrap adds a second time.
    assert metrics.interval(metrics.frechet, samples, data, resamples=50).low > value


def test_blocks_are_disjoint_and_use_every_example_once():
    seen = []

    def watched(a, b):
        seen.append((a.ravel().tolist(), b.ravel().tolist()))
        return float(a.mean() - b.mean())

    a, b = np.arange(43.0), np.arange(100.0, 130.0)
    value, low, high = metrics.over_blocks(watched, a, b, blocks=5)
    firsts, seconds = zip(*seen, strict=True)
    assert sorted(itertools.chain(*firsts)) == a.tolist()
    assert sorted(itertools.chain(*seconds)) == b.tolist()
    assert {len(each) for each in firsts} == {8, 9}
    values = [np.mean(x) - np.mean(y) for x, y in seen]
    expected = scipy.stats.t.interval(0.95, 4, np.mean(values), scipy.stats.sem(values))
    np.testing.assert_allclose((low, high), expected)
    assert value == pytest.approx(np.mean(values))


# Seeds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 8])
def test_over_seeds_is_scipy_s_t_interval(n):
    values = RNG.standard_normal(n)
    found = metrics.over_seeds(values, level=0.9)
    assert found.mean == pytest.approx(values.mean())
    assert found.sd == pytest.approx(values.std(ddof=1))
    expected = scipy.stats.t.interval(0.9, n - 1, values.mean(), scipy.stats.sem(values))
    np.testing.assert_allclose(found[2:], expected, rtol=1e-9)


def test_a_training_that_diverged_shows():
    assert np.isnan(metrics.over_seeds([1.0, float("nan"), 2.0]).mean)


# Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: metrics.interval(mean, x, level=1.0), "level"),
        (lambda x: metrics.half_samples(mean, x, level=0.0), "level"),
        (lambda x: metrics.over_seeds(x, level=95.0), "level"),
        (lambda x: metrics.interval(mean, x, resamples=1), "resamples"),
        (lambda x: metrics.interval(mean), "rows"),
        (lambda x: metrics.interval(mean, x, x[:0]), "rows"),
        (lambda x: metrics.half_samples(mean, x[:3]), "at least 4"),
        (lambda x: metrics.over_blocks(mean, x, blocks=6), "at least 12"),
        (lambda x: metrics.over_blocks(mean, x, blocks=1), "blocks"),
        (lambda x: metrics.over_seeds(x[:1]), "at least 2"),
    ],
)
def test_what_has_no_interval_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.arange(10.0))

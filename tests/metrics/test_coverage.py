import numpy as np
import pytest
from scipy.spatial.distance import cdist

from jaxscore import metrics

RNG = np.random.default_rng(0)
DATA = RNG.standard_normal((153, 3))
SAMPLES = 0.7 * RNG.standard_normal((101, 3)) + 0.5


def inside(queries, points, k):
    """Whether each query is in the ball of each point to its k-th other."""
    return cdist(queries, points) <= np.sort(cdist(points, points), axis=1)[:, k]


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_are_those_of_the_definition(mesh, k):
    precision, recall = metrics.precision_recall(SAMPLES, DATA, neighbours=k, mesh=mesh)
    assert precision == inside(SAMPLES, DATA, k).any(axis=1).mean()
    assert recall == inside(DATA, SAMPLES, k).any(axis=1).mean()
    assert 0.2 < recall < precision <= 1  # the samples are narrower than the data


def test_a_lost_mode_costs_recall_and_an_invented_one_precision(mesh):
    two = np.concatenate([DATA, DATA + 100])
    assert metrics.precision_recall(DATA, two, mesh=mesh) == (1.0, 0.5)
    assert metrics.precision_recall(two, DATA, mesh=mesh) == (0.5, 1.0)


@pytest.mark.parametrize("k", [1, 5])
def test_density_and_coverage_are_those_of_the_definition(mesh, k):
    density, coverage = metrics.density_coverage(SAMPLES, DATA, neighbours=k, mesh=mesh)
    expected = inside(SAMPLES, DATA, k)
    assert density == pytest.approx(expected.sum() / k / len(SAMPLES))
    assert coverage == pytest.approx(np.mean(expected.any(axis=0)))
    covered = metrics.covered(SAMPLES, DATA, neighbours=k, mesh=mesh)
    np.testing.assert_array_equal(covered, expected.any(axis=0))


@pytest.mark.parametrize(("n", "m", "k"), [(200, 200, 5), (100, 300, 3)])
def test_density_and_coverage_of_one_distribution(n, m, k):
    """The density is one, and the coverage is what the ranks say."""
    found = []
    for _ in range(100):
        samples, data = RNG.standard_normal((n, 2)), RNG.standard_normal((m, 2))
        found.append(metrics.density_coverage(samples, data, neighbours=k))
    density, coverage = np.mean(found, axis=0)
    # None of the first k of the others around a datum, m - 1 data and n samples in any order, is a sample.
    i = np.arange(1, k + 1)
    expected = 1 - np.prod((m - i) / (n + m - i))
    # 4 standard errors of the mean.
    error = 4 * np.std(found, axis=0) / np.sqrt(len(found))
    assert abs(density - 1) < error[0] < 0.03
    assert abs(coverage - expected) < error[1] < 0.02


def test_a_lost_mode_costs_coverage_and_one_stray_sample_nothing():
    two = np.concatenate([DATA, DATA + 100])
    assert metrics.density_coverage(DATA, two)[1] == 0.5
    half = metrics.density_coverage(DATA, DATA)[0] / 2
    assert metrics.density_coverage(two, DATA)[0] == pytest.approx(half)
    # A stray datum's own ball would make all samples between precise; a stray sample's is not looked at.
    before = metrics.density_coverage(SAMPLES, DATA)
    after = metrics.density_coverage(np.concatenate([SAMPLES, [[1e3, 0, 0]]]), DATA)
    assert after[1] == before[1]
    assert after[0] == pytest.approx(before[0] * 101 / 102)


def test_a_neighbour_that_is_not_there_is_refused():
    for call in (metrics.precision_recall, metrics.density_coverage):
        with pytest.raises(ValueError, match="neighbour"):
            call(SAMPLES, DATA[:3], neighbours=3)

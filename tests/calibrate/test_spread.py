import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import distance

from jaxscore import calibrate, sharding

CLOUD = np.random.default_rng(0).standard_normal((400, 3, 4)).astype(np.float32)
EXACT = distance.pdist(CLOUD.reshape(400, -1).astype(float)).max()


# A block of one row, blocks that do and do not divide the rows, and one that is too large.
@pytest.mark.parametrize(("rows", "block"), [(40, 1), (400, 32), (400, 100), (400, 130), (400, 10_000)])
def test_the_largest_distance_is_scipys(rows, block):
    found = calibrate.largest_distance(CLOUD[:rows], block=block)
    assert found.dtype == jnp.float32
    exact = distance.pdist(CLOUD[:rows].reshape(rows, -1).astype(float)).max()
    np.testing.assert_allclose(found, exact, rtol=1e-6)  # float32


def test_a_cloud_far_from_the_origin_keeps_its_digits():
    far = CLOUD + np.float32(1000)  # |a|^2 + |b|^2 - 2ab would be 2e7 with spacing 2, of distance^2 60
    exact = distance.pdist(far.reshape(400, -1).astype(float)).max()
    np.testing.assert_allclose(calibrate.largest_distance(far), exact, rtol=1e-6)
    np.testing.assert_allclose(calibrate.sigma_data(far), far.astype(float).std(), rtol=1e-5)


@pytest.mark.parametrize("at", [(0, 399), (17, 18), (130, 260)])
def test_the_farthest_pair_is_found_wherever_it_is(at):
    x = CLOUD.copy()
    x[at[0]] += 30
    x[at[1]] -= 30
    exact = np.linalg.norm(x[at[0]] - x[at[1]])
    np.testing.assert_allclose(calibrate.largest_distance(x, block=64), exact, rtol=1e-6)
    np.testing.assert_allclose(calibrate.largest_distance_estimate(x), exact, rtol=1e-6)


def test_far_from_the_mean_only_shorter_pairs_are_skipped():
    # All rows equally far from the mean: nothing may be skipped, and the pair is anywhere.
    angle = np.random.default_rng(1).uniform(size=200) * np.pi / 3  # a sixth of a circle
    arc = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    exact = 2 * np.sin((angle.max() - angle.min()) / 2)
    np.testing.assert_allclose(calibrate.largest_distance(arc, block=16), exact, rtol=1e-6)


def test_examples_that_are_all_the_same_have_no_distance():
    same = np.full((9, 5), 0.3, np.float32)
    assert calibrate.largest_distance(same, block=4) == 0
    assert calibrate.largest_distance_estimate(same) == 0
    # The mean of nine 0.3 is 0.3 but for its last digit.
    np.testing.assert_allclose(calibrate.sigma_data(same), 0, atol=1e-7)


def test_the_estimate_is_a_lower_bound_and_no_less_than_half():
    for seed in range(8):
        x = np.random.default_rng(seed).standard_normal((60, 2)) ** 3  # heavy tails
        exact = distance.pdist(x).max()
        for sweeps in (1, 2, 4):
            found = float(calibrate.largest_distance_estimate(x, sweeps=sweeps))
            assert exact / 2 <= found <= exact * (1 + 1e-6)  # float32


def test_more_sweeps_find_no_shorter_distance():
    found = [float(calibrate.largest_distance_estimate(CLOUD, sweeps=n)) for n in (1, 2, 3, 8)]
    assert found == sorted(found)
    # In 12 dimensions: within a tenth of the largest.
    assert 0.9 * EXACT <= found[-1] <= EXACT * (1 + 1e-6)


def test_the_stream_finds_what_the_estimate_finds():
    # It begins at the mean of its first batch; with one batch that is the mean.
    whole = calibrate.largest_distance_streamed(lambda: [CLOUD], sweeps=3)
    np.testing.assert_allclose(whole, calibrate.largest_distance_estimate(CLOUD, sweeps=3), rtol=1e-6)
    passes = []

    def batches():
        passes.append(0)
        return (CLOUD[i : i + 150] for i in range(0, 400, 150))

    parts = calibrate.largest_distance_streamed(batches, sweeps=3)
    assert len(passes) == 4
    assert EXACT / 2 <= parts <= EXACT * (1 + 1e-6)


def test_data_on_eight_devices_give_the_same():
    x = jax.device_put(CLOUD, sharding.batched(sharding.mesh()))
    for function in (calibrate.largest_distance, calibrate.largest_distance_estimate, calibrate.sigma_data):
        found = jax.jit(function)(x)
        np.testing.assert_allclose(found, function(CLOUD), rtol=1e-6)  # other orders of summation


def test_sigma_data_is_the_standard_deviation_of_all_numbers():
    np.testing.assert_allclose(calibrate.sigma_data(CLOUD * 3 + 1), 3 * CLOUD.astype(float).std(), rtol=1e-6)


REFUSED = [
    (calibrate.largest_distance, CLOUD[:1], {}, "at least 2 examples"),
    (calibrate.largest_distance, CLOUD, {"block": 0}, "at least 2 examples and"),
    (calibrate.largest_distance_estimate, CLOUD[:1], {}, "at least 2 examples"),
    (calibrate.largest_distance_estimate, CLOUD, {"sweeps": 0}, "at least 2 examples and"),
    (calibrate.largest_distance_streamed, list, {}, "no examples"),
    (calibrate.largest_distance_streamed, lambda: [CLOUD], {"sweeps": 0}, "sweeps = 0"),
]


@pytest.mark.parametrize(("function", "examples", "options", "message"), REFUSED)
def test_one_example_or_no_work_is_refused(function, examples, options, message):
    with pytest.raises(ValueError, match=message):
        function(examples, **options)

import numpy as np
import pytest

from experiments.families import setting as settings
from jaxscore import data


@pytest.mark.parametrize("name", ["digits", "25gaussians", "stacked_digits"])
def test_scaled_examples_have_mean_0_and_variance_1(name):
    setting = settings.of(name)
    scaled = np.asarray(setting.scaled(setting.train[:10_000]))
    # Exact where all examples are in the statistics, of the 45,000 a sample's error of about 1/100.
    np.testing.assert_allclose(scaled.mean(), 0, atol=0.02)
    np.testing.assert_allclose(scaled.std(), 1, atol=0.02)
    np.testing.assert_allclose(setting.restored(scaled[:50]), setting.train[:50], atol=2e-6)


def test_what_is_held_out_is_not_trained_on():
    setting = settings.of("digits")
    digits = data.digits().examples
    assert len(setting.train) + len(setting.held_out) == len(digits)
    kept = {image.tobytes() for image in setting.train}
    assert sum(image.tobytes() in kept for image in setting.held_out) == 0


def test_grey_values_are_clipped_and_points_are_not():
    assert float(settings.of("digits").restored(np.full((1, 8, 8, 1), 99.0)).max()) == 1.0
    assert float(settings.of("25gaussians").restored(np.full((1, 2), 99.0)).max()) > 90


def test_images_that_are_bytes_stay_bytes():
    images = data.held(np.arange(20 * 4, dtype=np.uint8).reshape(20, 2, 2, 1))
    some = settings._some(images, np.array([3, 7, 11]))
    np.testing.assert_array_equal(some[1], images[7])
    assert some.take(np.array([2])).dtype == np.uint8


def test_an_unknown_data_set_names_the_known_ones():
    with pytest.raises(data.DataError, match=r"fashion_mnist.*25gaussians, stacked_digits"):
        settings.of("nonsense")

import hashlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import data, metrics

compare = sys.modules["jaxscore.metrics.compare"]  # `metrics.compare` is the function

IMAGES, LABELS, _ = data.digits()
FEATURES = metrics.principal_components(IMAGES[:300], components=8)


def flat(x):
    return x.reshape(len(x), -1)


def test_the_comparison_has_every_metric_of_features_or_pixels():
    x, images, labels = IMAGES[150:300] ** 2, IMAGES[:150], LABELS[:150]
    a, b = FEATURES(x), FEATURES(images)
    precision, recall = metrics.precision_recall(a, b, neighbours=3)
    density, coverage = metrics.density_coverage(a, b, neighbours=5)
    expected = {
        "frechet": metrics.frechet(a, b),
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": coverage,
        "kid": metrics.kid(a, b),
        "class_kl": metrics.class_kl(LABELS[150:300], labels),
        "nearest_neighbour_ratio": metrics.nearest_neighbour_ratio(flat(x), flat(images)),
        "sliced_wasserstein": metrics.sliced_wasserstein(flat(x), flat(images)),
    }
    assert metrics.compare(x, images, labels, FEATURES, lambda x: LABELS[150:300]) == expected


def test_images_without_classes_are_compared_by_all_else():
    images, samples, labels = IMAGES[:150], IMAGES[150:300], LABELS[:150]
    found = metrics.compare(samples, images, None, FEATURES, None)
    labelled = metrics.compare(samples, images, labels, FEATURES, lambda x: labels)
    assert labelled == found | {"class_kl": labelled["class_kl"]}


def test_memorisation_is_measured_where_a_split_is_given():
    samples, split = IMAGES[150:300], (IMAGES[300:500], IMAGES[500:600])
    without, found = (
        metrics.compare(samples, IMAGES[:150], None, FEATURES, None, split=each) for each in (None, split)
    )
    expected = metrics.memorisation(*map(flat, (samples, *split)))
    assert found == without | {"memorisation": expected.excess, "memorisation_z": expected.z}


def test_of_few_images_there_is_no_kernel_distance():
    few, enough = (metrics.compare(IMAGES[:n], IMAGES[100:300], None, FEATURES, None) for n in (99, 100))
    assert set(enough) - set(few) == {"kid"}


TAKE_ARRAYS = {
    "kid": (metrics.kid, 1e-4),
    "mmd": (metrics.mmd, 1e-4),
    "frechet": (metrics.frechet, 1e-4),
    "sliced wasserstein": (metrics.sliced_wasserstein, 1e-4),
    "nearest": (lambda a, b: metrics.nearest(a, b)[0], 1e-4),
    "ratio": (metrics.nearest_neighbour_ratio, 1e-4),
    # In float32 a point on the edge of a ball, or as far from two examples, may change sides.
    "precision and recall": (metrics.precision_recall, 0.02),
    "density and coverage": (metrics.density_coverage, 0.02),
    "memorisation": (lambda a, b: metrics.memorisation(a, b[:100], b[100:])[:3], 0.02),
}


@pytest.mark.parametrize("name", TAKE_ARRAYS)
def test_jax_arrays_are_taken_as_they_are(name):
    metric, error = TAKE_ARRAYS[name]
    sets = np.random.default_rng(0).standard_normal((2, 150, 3))
    singles = [jnp.asarray(each, jnp.float32) for each in sets]
    np.testing.assert_allclose(metric(*singles), metric(*sets), rtol=error, atol=error)


def test_round_to_clips_and_rounds_to_the_grey_values():
    x = np.array([-0.3, 0.0, 0.03, 0.04, 0.5, 0.97, 1.0, 7.0])
    np.testing.assert_allclose(metrics.round_to(x, 16) * 16, [0, 0, 0, 1, 8, 16, 16, 16])
    np.testing.assert_array_equal(metrics.round_to(IMAGES, 16), IMAGES)
    assert set(np.unique(metrics.round_to(np.linspace(0, 1, 99), 1))) == {0, 1}


def test_large_sets_are_compared_on_devices_with_equal_result(monkeypatch):
    rng = np.random.default_rng(0)
    images, labels = rng.random((40, 4, 4, 1)), np.arange(40) % 2
    samples = rng.random((30, 4, 4, 1))
    assert compare.devices(compare.MANY - 1) is None
    split = images[:25], images[25:]
    before = metrics.compare(samples, images, labels, flat, None, split=split)
    monkeypatch.setattr(compare, "MANY", 1200)
    assert compare.devices(1200).size == 8
    after = metrics.compare(samples, images, labels, flat, None, split=split)
    assert after == pytest.approx(before, rel=1e-12)


# The fingerprint ----------------------------------------------------------------------------------


def test_the_fingerprint_is_of_dtype_shape_and_numbers():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = hashlib.sha256(b"<f4 (2, 3)" + x.tobytes()).hexdigest()
    assert metrics.fingerprint(x) == expected
    assert metrics.fingerprint(jnp.asarray(x)) == expected
    changed = x.copy()
    changed[1, 2] = np.nextafter(changed[1, 2], np.float32(9))
    others = [x.reshape(3, 2), x.ravel(), x.astype(np.float64), x.view(np.int32), changed, x[::-1]]
    assert len({expected, *map(metrics.fingerprint, others)}) == 7


def test_how_the_numbers_lie_in_memory_does_not_matter(tmp_path):
    x = np.random.default_rng(0).standard_normal((5, 3))
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    same = [np.asfortranarray(x), x.astype(">f8"), x.repeat(2, axis=0)[::2], mapped]
    assert {metrics.fingerprint(each) for each in same} == {metrics.fingerprint(x)}


def test_every_array_has_a_fingerprint():
    """Arrays without rows, single numbers and half precision have one too."""
    odd = [np.zeros((0, 3)), np.zeros((0, 4)), np.array(1.0), np.array(2.0), jnp.ones(3, jnp.bfloat16)]
    assert len({metrics.fingerprint(each) for each in odd}) == 5

import hashlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance
import scipy.stats
import sklearn.metrics

from experiments.common.features import classifier
from jaxscore import data, metrics

compare = sys.modules["jaxscore.metrics.compare"]  # `metrics.compare` is the function

IMAGES, LABELS, _ = data.digits()


@pytest.fixture(scope="module")
def fitted():
    return classifier(IMAGES, LABELS, seed=0)


def test_the_data_compared_with_themselves_are_perfect_copies(fitted):
    features, predict = fitted
    found = metrics.compare(IMAGES[:600], IMAGES[:600], LABELS[:600], features, predict)
    # The spread of the features is about 1: tr C is of the order of 100, and its root in float64
    # loses half of the 16 digits.
    assert found["frechet"] < 1e-5
    assert found["precision"] == 1
    assert found["recall"] == 1
    assert found["nearest_neighbour_ratio"] == 0
    assert found["coverage"] == 1
    assert found["sliced_wasserstein"] == 0
    assert found["class_kl"] < 1e-3  # up to the few that the classifier gets wrong


def test_the_comparison_is_that_of_numpy_and_scipy(fitted):
    features, predict = fitted
    rng = np.random.default_rng(0)
    images, labels = IMAGES[:600], LABELS[:600]
    noisy = IMAGES[600:1200] + 0.15 * rng.standard_normal((600, 8, 8, 1))
    x = metrics.round_to(noisy[LABELS[600:1200] != 3], 16)
    found = metrics.compare(x, images, labels, features, predict)

    ours, theirs = features(x), features(images)
    c1, c2 = np.cov(ours.T), np.cov(theirs.T)
    # The trace of the root of C1 C2 is the sum of the roots of its eigenvalues, which are real.
    root = np.sqrt(np.maximum(scipy.linalg.eigvals(c1 @ c2).real, 0)).sum()
    frechet = np.sum((ours.mean(0) - theirs.mean(0)) ** 2) + np.trace(c1 + c2) - 2 * root
    # An eigenvalue 0 comes out as 1e-16 of the largest, and its root as 1e-8.
    assert found["frechet"] == pytest.approx(frechet, rel=1e-5)

    distance = scipy.spatial.distance.cdist
    # Rank 3 among the others, the point itself being rank 0 of its own row.
    reach_theirs = np.sort(distance(theirs, theirs), axis=1)[:, 3]
    reach_ours = np.sort(distance(ours, ours), axis=1)[:, 3]
    precision = np.mean(np.any(distance(ours, theirs) <= reach_theirs, axis=1))
    recall = np.mean(np.any(distance(theirs, ours) <= reach_ours, axis=1))
    assert 0.05 < precision < 0.999  # neither is trivial
    assert 0.05 < recall < 0.999
    # One point on the rim of a ball may round to the other side.
    assert found["precision"] == pytest.approx(precision, abs=1.5 / len(x))
    assert found["recall"] == pytest.approx(recall, abs=1.5 / len(images))

    reach = np.sort(distance(theirs, theirs), axis=1)[:, 5]
    inside = distance(ours, theirs) <= reach
    assert 0.05 < inside.any(axis=0).mean() < 0.999
    assert found["density"] == pytest.approx(inside.sum() / 5 / len(x), abs=1.5 / 5 / len(x))
    assert found["coverage"] == pytest.approx(inside.any(axis=0).mean(), abs=1.5 / len(images))

    kernel = lambda a, b: sklearn.metrics.pairwise.polynomial_kernel(a, b, degree=3, gamma=1 / 64, coef0=1)
    off = lambda a: kernel(a, a)[~np.eye(len(a), dtype=bool)].mean()
    assert found["kid"] == pytest.approx(off(ours) + off(theirs) - 2 * kernel(ours, theirs).mean(), rel=1e-9)

    flat = lambda a: a.reshape(len(a), -1).astype(float)
    within = np.sort(distance(flat(images), flat(images)), axis=1)[:, 1]
    ratio = np.median(distance(flat(x), flat(images)).min(axis=1)) / np.median(within)
    assert found["nearest_neighbour_ratio"] == pytest.approx(ratio, rel=1e-9)

    p, q = (np.bincount(c, minlength=10) / len(c) for c in (predict(x), labels))
    assert found["class_kl"] == pytest.approx(scipy.stats.entropy(p, q), rel=1e-9)
    assert found["class_kl"] > 0.03  # one of ten classes is missing


def test_the_sliced_distance_is_that_of_sorted_projections(fitted):
    features, predict = fitted
    x = np.clip(IMAGES[:600] ** 2, 0, 1)
    found = metrics.compare(x, IMAGES[600:1200], LABELS[600:1200], features, predict)
    u = np.random.default_rng(1).standard_normal((64, 4000))
    u /= np.linalg.norm(u, axis=0)
    project = lambda a: np.sort(a.reshape(len(a), -1) @ u, axis=0)
    expected = np.sqrt(np.mean((project(x) - project(IMAGES[600:1200])) ** 2))
    # 256 other directions: their squared distances spread by about 1.5 means, so 5 % of the root.
    assert found["sliced_wasserstein"] == pytest.approx(expected, rel=0.15)


def test_images_without_classes_are_compared_by_all_else():
    features = metrics.principal_components(IMAGES[:300], components=8)
    images, samples, labels = IMAGES[:150], IMAGES[150:300], LABELS[:150]
    found = metrics.compare(samples, images, None, features, None)
    labelled = metrics.compare(samples, images, labels, features, lambda x: labels)
    assert set(labelled) - set(found) == {"class_kl"}
    assert found == {name: labelled[name] for name in found}


def test_memorisation_is_measured_where_a_split_is_given(fitted):
    features, predict = fitted
    images, labels = IMAGES[:900], LABELS[:900]
    order = np.random.default_rng(0).permutation(1797)
    train, held_out = IMAGES[order[:600]], IMAGES[order[600:1200]]
    noisy = train[:300] + 0.05 * np.random.default_rng(1).standard_normal((300, 8, 8, 1))
    found = {
        name: metrics.compare(x, images, labels, features, predict, split=(train, held_out))
        for name, x in {"copies": noisy, "fresh": IMAGES[order[1200:]], "held out": held_out}.items()
    }
    assert found["copies"]["memorisation"] == 1
    assert found["held out"]["memorisation"] == -1
    assert found["copies"]["memorisation_z"] > 5
    assert abs(found["fresh"]["memorisation_z"]) < 4
    distance = lambda a, b: scipy.spatial.distance.cdist(a.reshape(len(a), -1), b.reshape(len(b), -1))
    fresh = IMAGES[order[1200:]]
    further = np.sign(distance(fresh, held_out).min(axis=1) - distance(fresh, train).min(axis=1))
    share = np.mean((1 + further) / 2)  # of grey values some are equally far
    assert found["fresh"]["memorisation"] == pytest.approx(2 * share - 1)
    # All else is as without a split.
    without = metrics.compare(fresh, images, labels, features, predict)
    rest = {name: found["fresh"][name] for name in without}
    assert rest == without
    assert set(found["fresh"]) - set(without) == {"memorisation", "memorisation_z"}


def test_of_few_images_there_is_no_kernel_distance():
    features = metrics.principal_components(IMAGES[:300], components=8)
    few, enough = (metrics.compare(IMAGES[:n], IMAGES[100:300], None, features, None) for n in (99, 100))
    assert set(enough) - set(few) == {"kid"}


def test_round_to_clips_and_rounds_to_the_grey_values():
    x = np.array([-0.3, 0.0, 0.03, 0.04, 0.5, 0.97, 1.0, 7.0])
    np.testing.assert_allclose(metrics.round_to(x, 16) * 16, [0, 0, 0, 1, 8, 16, 16, 16])
    np.testing.assert_array_equal(metrics.round_to(IMAGES, 16), IMAGES)
    assert set(np.unique(metrics.round_to(np.linspace(0, 1, 99), 1))) == {0, 1}


def test_large_sets_are_compared_on_devices_with_equal_result(monkeypatch):
    rng = np.random.default_rng(0)
    images, labels = rng.random((40, 4, 4, 1)), np.arange(40) % 2
    samples, flat = rng.random((30, 4, 4, 1)), lambda x: x.reshape(len(x), -1)
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
    same = [
        np.asfortranarray(x),
        x.astype(">f8"),
        x.repeat(2, axis=0)[::2],
        np.load(tmp_path / "x.npy", mmap_mode="r"),
    ]
    assert {metrics.fingerprint(each) for each in same} == {metrics.fingerprint(x)}


def test_every_array_has_a_fingerprint():
    """Arrays without rows, single numbers and half precision have one too."""
    odd = [np.zeros((0, 3)), np.zeros((0, 4)), np.array(1.0), np.array(2.0), jnp.ones(3, jnp.bfloat16)]
    assert len({metrics.fingerprint(each) for each in odd}) == 5

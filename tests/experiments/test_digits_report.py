import json

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance
import scipy.special
import scipy.stats
import sklearn.neural_network

from experiments import digits, digits_report
from jaxscore import data

IMAGES, LABELS = data.digits()
CONFIG = digits.Config(
    samples=30,
    classifiers=1,
    heun=digits.Heun(levels=20, sigma_min=0.01, sigma_max=20.0),
    langevin=digits.Langevin(levels=3, steps=2),
)


@pytest.fixture(scope="module")
def fitted():
    """The classifier's two functions, and the scikit-learn network that they are made of."""
    networks, fit = [], sklearn.neural_network.MLPClassifier.fit

    def recorded(network, *arguments):
        networks.append(network)
        return fit(network, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sklearn.neural_network.MLPClassifier, "fit", recorded)
        features, predict = digits_report.classifier(IMAGES, LABELS, seed=0)
    (network,) = networks
    return features, predict, network


# The classifier -------------------------------------------------------------------------------


def test_features_are_the_last_hidden_layer_of_the_classifier(fitted):
    features, predict, network = fitted
    hidden = features(IMAGES)
    assert hidden.shape == (1797, 64)
    assert hidden.min() >= 0
    logits = hidden @ network.coefs_[-1] + network.intercepts_[-1]
    ours = np.exp(logits - scipy.special.logsumexp(logits, axis=1, keepdims=True))
    theirs = network.predict_proba(IMAGES.reshape(len(IMAGES), -1).astype(float))
    np.testing.assert_allclose(ours, theirs, atol=1e-10)  # the same products in float64
    np.testing.assert_array_equal(predict(IMAGES), theirs.argmax(axis=1))


def test_the_classifier_knows_the_digits(fitted):
    # It is fitted to all of them, and they are easy: what it is not sure of tells nothing here.
    assert np.mean(fitted[1](IMAGES) == LABELS) > 0.99


# Comparison -----------------------------------------------------------------------------------


def test_the_data_compared_with_themselves_are_perfect_copies(fitted):
    features, predict, _ = fitted
    found = digits_report.compare(IMAGES, IMAGES, LABELS, features, predict)
    # The spread of the features is about 1: tr C is of the order of 100, and its root in float64
    # loses half of the 16 digits.
    assert found["frechet"] < 1e-5
    assert found["precision"] == 1
    assert found["recall"] == 1
    assert found["nearest_neighbour_ratio"] == 0
    assert found["sliced_wasserstein"] == 0
    assert found["class_kl"] < 1e-3  # up to the few that the classifier gets wrong


def test_the_comparison_is_that_of_numpy_and_scipy(fitted):
    features, predict, _ = fitted
    rng = np.random.default_rng(0)
    images, labels = IMAGES[:600], LABELS[:600]
    noisy = IMAGES[600:1200] + 0.15 * rng.standard_normal((600, 8, 8, 1))
    x = digits_report.round_to(noisy[LABELS[600:1200] != 3], 16)
    found = digits_report.compare(x, images, labels, features, predict)

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

    flat = lambda a: a.reshape(len(a), -1).astype(float)
    within = np.sort(distance(flat(images), flat(images)), axis=1)[:, 1]
    ratio = np.median(distance(flat(x), flat(images)).min(axis=1)) / np.median(within)
    assert found["nearest_neighbour_ratio"] == pytest.approx(ratio, rel=1e-9)

    p, q = (np.bincount(c, minlength=10) / len(c) for c in (predict(x), labels))
    assert found["class_kl"] == pytest.approx(scipy.stats.entropy(p, q), rel=1e-9)
    assert found["class_kl"] > 0.03  # one of ten classes is missing


def test_the_sliced_distance_is_that_of_sorted_projections(fitted):
    features, predict, _ = fitted
    x = np.clip(IMAGES[:600] ** 2, 0, 1)
    found = digits_report.compare(x, IMAGES[600:1200], LABELS[600:1200], features, predict)
    u = np.random.default_rng(1).standard_normal((64, 4000))
    u /= np.linalg.norm(u, axis=0)
    project = lambda a: np.sort(a.reshape(len(a), -1) @ u, axis=0)
    expected = np.sqrt(np.mean((project(x) - project(IMAGES[600:1200])) ** 2))
    # 256 other directions: their squared distances spread by about 1.5 means, so 5 % of the root.
    assert found["sliced_wasserstein"] == pytest.approx(expected, rel=0.15)


def test_round_to_clips_and_rounds_to_the_grey_values():
    x = np.array([-0.3, 0.0, 0.03, 0.04, 0.5, 0.97, 1.0, 7.0])
    np.testing.assert_allclose(digits_report.round_to(x, 16) * 16, [0, 0, 0, 1, 8, 16, 16, 16])
    np.testing.assert_array_equal(digits_report.round_to(IMAGES, 16), IMAGES)
    assert set(np.unique(digits_report.round_to(np.linspace(0, 1, 99), 1))) == {0, 1}


# Evaluation -----------------------------------------------------------------------------------


@pytest.fixture
def cached(fitted, monkeypatch):
    """The one fitted classifier, whatever is asked for."""
    monkeypatch.setattr(digits_report, "classifier", lambda *images_and_labels, seed: fitted[:2])


def test_the_evaluation_judges_every_array_after_rounding(fitted, cached):
    nudged = IMAGES + 0.02  # less than half a grey value: rounding takes it away
    samples = {"samples": nudged, "langevin": IMAGES[::-1], "langevin_without_denoising": 1 - IMAGES}
    found = digits_report.evaluate(CONFIG, IMAGES, LABELS, None, samples)
    assert json.loads(json.dumps(found)) == found
    assert found["samples"]["nearest_neighbour_ratio"] == 0
    assert found["langevin"]["nearest_neighbour_ratio"] == 0
    assert found["langevin"]["frechet"] < 1e-5
    assert found["langevin_without_denoising"]["nearest_neighbour_ratio"] > 1
    assert found["langevin_without_denoising"]["frechet"] > 1
    expected = digits_report.compare(IMAGES, IMAGES, LABELS, *fitted[:2])
    for column, value in expected.items():
        assert found["samples"][column] == pytest.approx(value, abs=1e-9)
    halves = [fitted[0](half) for half in (IMAGES[::2], IMAGES[1::2])]
    means = np.sum((halves[0].mean(0) - halves[1].mean(0)) ** 2)
    assert found["real"]["halves_frechet"] > means
    assert found["settings"]["reference_n"] == 1797
    assert found["settings"]["n"] == 30

    rows = digits_report.table(found)
    assert len({len(row) for row in rows}) == 1
    assert [row[0].strip() for row in rows[1:]] == [
        "Heun",
        "annealed Langevin",
        "without denoising",
        "real, half to half",
    ]
    assert rows[3][2] == f"{found['langevin_without_denoising']['frechet']:.3f}"
    assert rows[4][2] == f"{found['real']['halves_frechet']:.3f}"


def test_the_evaluations_counted_are_those_made(cached, monkeypatch):
    calls = []

    class Counted:
        """A network that counts how often it is called, and is zero."""

        def __init__(self, **settings):
            pass

        def init(self, key, x, c_noise):
            return {}

        def apply(self, params, x, c_noise, **more):
            calls.append(len(x))
            return jnp.zeros_like(x)

    monkeypatch.setattr(digits, "MLP", Counted)
    config = digits.Config(heun=digits.Heun(levels=2), langevin=digits.Langevin(levels=2, steps=2))
    experiment = digits.build(config)
    samples = dict.fromkeys(digits_report.ROWS, IMAGES[:100])
    claimed = digits_report.evaluate(config, IMAGES, LABELS, None, samples)
    keys = lambda: jax.random.split(jax.random.key(0), 2)
    with jax.disable_jit():  # every step and every branch is then a call of Python
        experiment.samplers["heun"]({}, keys())
        assert len(calls) == claimed["samples"]["evaluations"]
        calls.clear()
        experiment.samplers["langevin"]({}, keys())
        assert len(calls) == claimed["langevin"]["evaluations"]
        assert len(calls) == claimed["langevin_without_denoising"]["evaluations"] + 1


# Pictures -------------------------------------------------------------------------------------


def gaussian_score(params, x, sigma):
    """The exact score of N(0, I)."""
    return -x / (1 + sigma[:, None, None, None] ** 2)


def test_the_trajectory_is_that_of_the_probability_flow():
    score = lambda x, sigma: gaussian_score(None, x, sigma)
    path, expected, sigmas = digits_report.trajectory(CONFIG, score, (8, 8, 1))
    assert path.shape == expected.shape == (6 * 21, 8, 8, 1)
    assert len(sigmas) == 21
    path, expected = (x.reshape(6, 21, 8, 8, 1) for x in (path, expected))
    scale = np.sqrt(1 + sigmas**2)
    # On N(0, I) the flow only scales x; Heun's 20 steps are off by less than 2 %.
    flow = path[:, :1] * (scale / scale[0])[None, :, None, None, None]
    assert np.linalg.norm(path - flow) < 0.02 * np.linalg.norm(flow)
    # E[x0 | x] = x / (1 + sigma^2), and x itself at the end; float32.
    tweedie = path / (1 + sigmas**2)[None, :, None, None, None]
    np.testing.assert_allclose(expected, tweedie, rtol=1e-3, atol=1e-4)
    # 384 normals: their standard deviation is known to 3.6 %.
    assert path[:, 0].std() == pytest.approx(20.0, rel=0.15)


HISTORY = [{"step": step, "loss_by_sigma": [32.0, 31.0, None, 29.0, 10.0]} for step in (10, 20)]


def draw_report(folder, n):
    samples = dict.fromkeys(digits_report.ROWS, IMAGES[:n])
    pixels = lambda x: np.clip(np.asarray(x) / 2 + 0.5, 0, 1)
    return digits_report.report(CONFIG, gaussian_score, pixels, IMAGES, None, samples, HISTORY, folder)


def assert_pictures(folder, paths) -> None:
    names = ["samples.png", "trajectory.png", "nearest.png", "loss.png"]
    assert paths == [folder / name for name in names]
    for path in paths:
        picture = matplotlib.image.imread(path)[..., :3]
        assert np.mean(np.any(picture != 1, axis=-1)) > 0.02  # frames and titles alone are less


def test_the_pictures_are_drawn(tmp_path):
    assert_pictures(tmp_path, draw_report(tmp_path, 100))


@pytest.mark.parametrize("n", [1, 8])
def test_the_pictures_are_drawn_of_few_samples_too(tmp_path, n):
    assert_pictures(tmp_path, draw_report(tmp_path, n))

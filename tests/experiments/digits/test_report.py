import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import features
from experiments.common.features import classifier
from experiments.digits import experiment as digits
from experiments.digits import report as digits_report
from experiments.digits.config import Heun, Langevin
from jaxscore import data, samplers
from tests.experiments.pictures import ink
from tests.grids import rest

IMAGES, LABELS, _ = data.digits()
DIGITS = digits.load(digits.Config())
EVALUATIONS = {"heun": 17, "langevin": 301, "langevin_without_denoising": 300}
CONFIG = digits.Config(
    samples=30,
    classifiers=1,
    heun=Heun(levels=20, sigma_min=0.01, sigma_max=20.0),
    langevin=Langevin(levels=3, steps=2),
)
CONDITIONAL = dataclasses.replace(CONFIG, conditional=True)


@pytest.fixture(scope="module")
def fitted():
    """A classifier's two functions: a hasty one; tests/experiments/common looks at what it knows."""
    return classifier(IMAGES, LABELS, epochs=5)


# Evaluation -----------------------------------------------------------------------------------


@pytest.fixture
def cached(fitted, monkeypatch):
    """The one fitted classifier, whatever is asked for."""
    monkeypatch.setattr(features, "classifier", lambda *images_and_labels, seed, epochs: fitted)


def test_the_evaluation_judges_every_array_after_rounding(cached):
    """tests/experiments/common looks at what judges say."""
    nudged = IMAGES + 0.02  # less than half a grey value: rounding takes it away
    samples = {"heun": nudged, "langevin": IMAGES[::-1], "langevin_without_denoising": 1 - IMAGES}
    found = digits_report.evaluate(CONFIG, DIGITS, EVALUATIONS, None, samples)
    assert json.loads(json.dumps(found)) == found
    assert found["heun"]["nearest_neighbour_ratio"] == found["langevin"]["nearest_neighbour_ratio"] == 0
    negative = found["langevin_without_denoising"]
    assert min(negative["nearest_neighbour_ratio"], negative["frechet"]) > 1
    labels = ["Heun", "annealed Langevin", "without denoising", "real, half to half"]
    assert [row[0].strip() for row in digits_report.table(found)[1:]] == labels


def test_the_evaluations_counted_are_those_made(monkeypatch):
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
    monkeypatch.setattr(digits, "description", lambda *given: None)
    config = digits.Config(heun=Heun(levels=2), langevin=Langevin(levels=2, steps=2))
    experiment = digits.build(config)
    claimed = digits.evaluations(config)
    keys = lambda: jax.random.split(jax.random.key(0), 2)
    with jax.disable_jit():  # every step and every branch is then a call of Python
        experiment.samplers["heun"]({}, keys())
        assert len(calls) == claimed["heun"]
        calls.clear()
        experiment.samplers["langevin"]({}, keys())
        assert len(calls) == claimed["langevin"] == claimed["langevin_without_denoising"] + 1


# Pictures -------------------------------------------------------------------------------------


NORMAL = samplers.Moments(jnp.zeros((8, 8, 1)), jnp.ones(()))
"""Mean and variance of N(0, I)."""


def gaussian_score(params, x, sigma):
    """The exact score of N(0, I)."""
    return -x / (1 + sigma[:, None, None, None] ** 2)


def test_the_trajectory_is_that_of_the_probability_flow():
    score = lambda x, sigma: gaussian_score(None, x, sigma)
    sigmas = digits.sigma_grid(CONFIG.heun)
    path, expected = digits_report.trajectory(score, sigmas, NORMAL, seed=0)
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


BY_SIGMA = {"loss_by_sigma": [32.0, 31.0, None, 29.0, 10.0], "sigma_edges": [0.1, 0.25, 0.6, 1.5]}
HISTORY = [{"step": step, "loss": 20.0, **BY_SIGMA} for step in (10, 20)]


@pytest.mark.parametrize(
    ("n", "config", "names"),
    [
        (100, CONDITIONAL, "samples trajectory nearest loss classes"),
        (3, CONFIG, "samples trajectory nearest loss"),
        rest(1, CONFIG, "samples trajectory nearest loss"),
    ],
)
def test_the_pictures_are_drawn_of_few_samples_too(tmp_path, n, config, names):
    """Classes have a picture of their own."""
    samples = dict.fromkeys(digits_report.ROWS, IMAGES[:n])
    score_of, sigmas = lambda params, numbers: partial(gaussian_score, params), digits.sigma_grid(config.heun)
    paths = digits_report.report(config, DIGITS, score_of, sigmas, None, samples, HISTORY, tmp_path)
    assert paths == [tmp_path / f"{name}.png" for name in names.split()]
    assert min(map(ink, paths)) > 0.02


# Classes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("label", "wanted"), [(None, [0, 1, 2, 3]), (3, [3, 3, 3, 3])])
def test_the_classes_asked_for_are_in_turn_or_one(label, wanted):
    config = dataclasses.replace(CONDITIONAL, label=label)
    assert digits_report.wanted(config, DIGITS, 4).tolist() == wanted


def test_the_agreement_is_the_classifiers_with_the_class(cached, fitted):
    """The class is the one that was asked for."""
    config = dataclasses.replace(CONDITIONAL, label=3)
    threes = np.concatenate([IMAGES[LABELS == 3][:30], IMAGES[LABELS == 8][:10]])
    samples = dict.fromkeys(digits_report.ROWS, threes)
    found = digits_report.evaluate(config, DIGITS, EVALUATIONS, None, samples)
    assert found["heun"]["agreement"] == np.mean(fitted[1](threes) == 3)
    assert found["settings"]["reference_n"] == (LABELS == 3).sum()
    rows = digits_report.table(found)
    assert rows[0][-1] == "agreement"
    assert len({len(row) for row in rows}) == 1

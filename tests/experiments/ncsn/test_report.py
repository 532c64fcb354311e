import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import features
from experiments.ncsn import report as ncsn_report
from experiments.ncsn.config import PRESETS
from jaxscore import data, metrics, samplers
from jaxscore.data import Images
from tests.experiments.pictures import ink

IMAGES, LABELS, _ = data.digits()
CONFIG = dataclasses.replace(PRESETS["digits"], levels=5, langevin_steps=2, samples=60, classifiers=2)
EVALUATIONS = {"samples": 11, "without_denoising": 10}


# Evaluation -----------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch):
    """Which classifiers were asked for; each looks at 8 pixels of its own, and is not fitted."""
    settings = []

    def classifier(images, labels, *, seed, epochs):
        settings.append({"images": len(images), "labels": len(labels), "seed": seed, "epochs": epochs})
        flat = lambda x: np.asarray(x, float).reshape(len(x), -1)
        return lambda x: flat(x)[:, 8 * seed + 16 :][:, :8], lambda x: np.full(len(x), seed)

    monkeypatch.setattr(features, "classifier", classifier)
    return settings


def test_every_classifier_learns_from_all_images_and_judges(asked):
    """tests/experiments/common looks at what judges say."""
    samples = {"samples": IMAGES[:60], "without_denoising": 1 - IMAGES[:60]}
    found = ncsn_report.evaluate(CONFIG, EVALUATIONS, IMAGES, LABELS, None, samples)
    assert json.loads(json.dumps(found)) == found
    assert asked == [{"images": 1797, "labels": 1797, "seed": seed, "epochs": 200} for seed in (0, 1)]
    assert {name: found[name]["evaluations"] for name in samples} == EVALUATIONS
    assert found["settings"]["features"].endswith("fitted to all 1797 images")
    labels = ["annealed Langevin", "without denoising", "real, half to half"]
    assert [row[0].strip() for row in ncsn_report.table(found)[1:]] == labels


def test_a_part_of_the_images_is_the_reference_if_asked_for(asked):
    config = dataclasses.replace(CONFIG, reference=50)
    samples = dict.fromkeys(ncsn_report.ROWS, IMAGES[:30])
    found = ncsn_report.evaluate(config, EVALUATIONS, IMAGES, LABELS, None, samples)
    assert found["settings"]["reference_n"] == 50
    assert asked[0]["images"] == 1797  # classifiers learn from all
    again = ncsn_report.evaluate(config, EVALUATIONS, IMAGES, LABELS, None, samples)
    assert found == again  # always the same part
    assert found["samples"]["nearest_neighbour_ratio"] > 0


@pytest.mark.parametrize(("n", "epochs"), [(1797, 200), (20_000, 45), (60_000, 15), (500_000, 15)])
def test_many_images_are_learnt_in_few_epochs(asked, n, epochs):
    images = np.broadcast_to(IMAGES[:1], (n, 8, 8, 1))
    samples = {"samples": IMAGES[:4]}
    config = dataclasses.replace(CONFIG, reference=4)
    ncsn_report.evaluate(config, EVALUATIONS, images, np.arange(n) % 2, None, samples)
    assert [row["epochs"] for row in asked] == [epochs, epochs]


def test_images_without_classes_have_principal_components(asked):
    """The components take the place of a classifier's features."""
    samples = dict.fromkeys(ncsn_report.ROWS, IMAGES[:60])
    found = ncsn_report.evaluate(CONFIG, EVALUATIONS, IMAGES, np.zeros(1797, np.int32), None, samples)
    features = metrics.principal_components(IMAGES)
    expected = metrics.compare(IMAGES[:60], IMAGES, None, features, None)
    assert found["samples"] == {"evaluations": 11, **expected, "by_judge": [expected]}
    assert "class_kl" not in expected
    assert found["settings"]["features"] == "64 principal components of the reference, which need no labels"
    assert asked == []
    assert "class KL" not in ncsn_report.table(found)[0]


def test_images_out_of_memory_have_principal_components(asked, monkeypatch):
    """The components take the place of a classifier's features."""
    monkeypatch.setattr(data.images, "RESIDENT_BYTES", 0)
    images = Images(lambda number: np.uint8(255 * IMAGES[number]), (200, 8, 8, 1))
    samples = dict.fromkeys(ncsn_report.ROWS, IMAGES[:20])
    config = dataclasses.replace(CONFIG, reference=100)
    found = ncsn_report.evaluate(config, EVALUATIONS, images, LABELS[:200], None, samples)
    assert asked == []
    assert found["settings"]["reference_n"] == 100
    assert "class_kl" not in found["samples"]


# Pictures -------------------------------------------------------------------------------------

BY_SIGMA = {"loss_by_sigma": [32.0, 31.0, None, 29.0, 10.0], "sigma_edges": [0.1, 0.2, 0.5, 1.0]}
HISTORY = [{"step": step, "loss": 20.0, **BY_SIGMA} for step in (10, 20)]


def draw(folder, *, n, images=IMAGES, history=HISTORY):
    def annealing(params, keys):
        seen.append(keys.shape)
        frames = jnp.full((CONFIG.levels, *keys.shape, *images.shape[1:]), params)
        figures = jnp.ones((CONFIG.levels, *keys.shape))
        return frames, samplers.Statistics(figures[:, 0], figures, figures, figures)

    seen = []
    samples = dict.fromkeys(ncsn_report.ROWS, images[:n])
    paths = ncsn_report.report(CONFIG, annealing, images, 0.3, samples, history, folder)
    assert seen == [(6,)]
    return paths


COLOURED = np.repeat(IMAGES[:20], 3, axis=3)


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 100},
        {"n": 4, "history": []},  # of a network that was trained elsewhere
        {"n": 20, "images": Images(lambda number: np.uint8(255 * COLOURED[number]), (20, 8, 8, 3))},
    ],
    ids=["many", "few", "coloured and not in memory"],
)
def test_the_pictures_are_drawn(tmp_path, changes):
    paths = draw(tmp_path, **changes)
    assert paths == [tmp_path / f"{name}.png" for name in ("samples", "nearest", "annealing", "loss")]
    assert min(map(ink, paths)) > 0.02

import dataclasses

import numpy as np

from experiments.edm import report
from experiments.edm.config import Config, Sampling
from jaxscore import data

SOURCE = data.digits()
CONFIG = Config(data="digits", classes=10, samples=50, classifiers=1, grey_values=16, reference=300)


def test_without_test_images_samples_are_compared_with_the_data():
    images, labels = report.reference_of(CONFIG, SOURCE)
    assert images.shape == (300, 8, 8, 1)
    assert len(np.unique(labels)) == 10
    of_three, threes = report.reference_of(dataclasses.replace(CONFIG, sampling=Sampling(label=3)), SOURCE)
    assert set(threes) == {3}
    assert len(of_three) == (SOURCE.labels == 3).sum()


def test_training_images_are_of_the_class_that_was_asked_for():
    one = dataclasses.replace(CONFIG, sampling=Sampling(label=3))
    samples = {"samples": SOURCE.examples[np.flatnonzero(SOURCE.labels == 3)[:50]]}
    found = report.evaluate(one, 14, SOURCE, None, samples)
    assert found["training"]["agreement"] == 1.0
    assert found["training"]["precision"] > 0.9


def test_classes_that_are_asked_for_take_turns():
    assert report.wanted(CONFIG, 12).tolist() == [*range(10), 0, 1]
    one = dataclasses.replace(CONFIG, sampling=Sampling(label=4))
    assert report.wanted(one, 3).tolist() == [4, 4, 4]


def test_samples_that_are_real_images_agree_with_their_classes():
    """Training images are judged beside the samples; here the samples are images of the classes asked for."""
    of_class = [np.flatnonzero(SOURCE.labels == label) for label in range(10)]
    samples = {"samples": np.stack([SOURCE.examples[of_class[i % 10][i]] for i in range(50)])}
    found = report.evaluate(CONFIG, 14, SOURCE, None, samples)
    assert found["samples"]["agreement"] == found["training"]["agreement"] == 1.0
    titles = [row[0] for row in report.table(found)]
    assert titles == ["sampler", "samples", "training images", "real, half to half"]

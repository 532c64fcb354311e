"""Features for the comparison of samples with data: a classifier's hidden layer, or principal components.

Distances in these features can be compared if the features, the rounding and the numbers of examples are the
same. They cannot be compared with FIDs in the literature, which use the features of Inception.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxscore import data, metrics

Function = Callable[[np.ndarray], np.ndarray]

FITTED: dict[tuple, Any] = {}
"""The classifiers that this process has fitted: a run evaluates more than once."""

Judge = tuple[Function, Function | None]
"""Two functions of images: their features, and their class, or None without classes."""


def judges(
    images: data.Examples, labels: np.ndarray, reference: np.ndarray, *, n: int, epochs: int = 200
) -> tuple[list[Judge], str]:
    """Returns n classifiers as judges, or one judge that needs no labels; and a description of the features.

    A judge without labels looks at the first principal components of the reference. It judges images of a
    single class, and images that do not fit in memory.
    """
    if not data.fits(images) or len(np.unique(labels)) < 2:
        features = metrics.principal_components(reference)
        count = features(reference[:1]).shape[1]
        return [(features, None)], f"{count} principal components of the reference, which need no labels"
    images = images[:]
    found = [classifier(images, labels, seed=seed, epochs=epochs) for seed in range(n)]
    return found, f"last hidden layer of MLPClassifier((128, 64)) fitted to all {len(images)} images"


def epochs_for(n: int) -> int:
    """Returns the epochs of a classifier of n images: 15 for 60,000, as many steps as 200 for 4,500."""
    return int(np.clip(900_000 / n, 15, 200))


def classifier(
    images: np.ndarray, labels: np.ndarray, *, seed: int = 0, epochs: int = 200
) -> tuple[Function, Function]:
    """Returns two functions of images, the last hidden layer and the predicted class of a fitted classifier.

    A classifier that has been fitted to the same images is used again. scikit-learn stops before `epochs` if
    the loss no longer falls. Raises ImportError if scikit-learn is not installed.
    """
    try:
        from sklearn.neural_network import MLPClassifier
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise ImportError("the classifier is scikit-learn's: pip install 'jaxscore[experiments]'") from None

    flat = lambda x: np.asarray(x, float).reshape(len(x), -1)
    given = metrics.fingerprint(images), metrics.fingerprint(labels), seed, epochs
    if given not in FITTED:
        with threadpool_limits(1):  # the matrices are so small that more threads are slower
            network = MLPClassifier((128, 64), random_state=seed, max_iter=epochs)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # features are good enough before the loss has converged
                FITTED[given] = network.fit(flat(images), labels)
    network = FITTED[given]

    def features(x):
        hidden = flat(x)
        for weights, bias in zip(network.coefs_[:-1], network.intercepts_[:-1], strict=True):
            hidden = np.maximum(hidden @ weights + bias, 0)
        return hidden

    return features, lambda x: network.predict(flat(x))

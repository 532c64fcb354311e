"""Features in which samples are compared with data: the last hidden layer of a classifier.

Distances are comparable with each other where features, rounding and the numbers of examples are the
same, and not with FIDs in the literature, whose features are Inception's.
"""

import warnings
from collections.abc import Callable

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]


def classifier(
    images: np.ndarray, labels: np.ndarray, *, seed: int = 0, epochs: int = 200
) -> tuple[Function, Function]:
    """A classifier fitted to all images, as two functions of images: its last hidden layer, and the class.

    For at most so many epochs; scikit-learn stops earlier when the loss no longer falls. Raises ImportError
    if scikit-learn is not installed.
    """
    try:
        from sklearn.neural_network import MLPClassifier
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise ImportError("the classifier is scikit-learn's: pip install 'jaxscore[experiments]'") from None

    flat = lambda x: np.asarray(x, float).reshape(len(x), -1)
    with threadpool_limits(1):  # its matrices are too small to share: more threads are slower
        network = MLPClassifier((128, 64), random_state=seed, max_iter=epochs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it might have gone on: its features are good enough
            network.fit(flat(images), labels)

    def features(x):
        hidden = flat(x)
        for weights, bias in zip(network.coefs_[:-1], network.intercepts_[:-1], strict=True):
            hidden = np.maximum(hidden @ weights + bias, 0)
        return hidden

    return features, lambda x: network.predict(flat(x))

"""Features for the comparison of samples with data: the last hidden layer of a classifier.

Distances in these features can be compared if the features, the rounding and the numbers of examples are the
same. They cannot be compared with FIDs in the literature, which use the features of Inception.
"""

import warnings
from collections.abc import Callable

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]


def classifier(
    images: np.ndarray, labels: np.ndarray, *, seed: int = 0, epochs: int = 200
) -> tuple[Function, Function]:
    """Fits a classifier; returns two functions of images: the last hidden layer and the predicted class.

    `epochs` is an upper limit: scikit-learn stops earlier if the loss no longer falls. Raises ImportError if
    scikit-learn is not installed.
    """
    try:
        from sklearn.neural_network import MLPClassifier
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise ImportError("the classifier is scikit-learn's: pip install 'jaxscore[experiments]'") from None

    flat = lambda x: np.asarray(x, float).reshape(len(x), -1)
    with threadpool_limits(1):  # the matrices are so small that more threads are slower
        network = MLPClassifier((128, 64), random_state=seed, max_iter=epochs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # features are good enough before the loss has converged
            network.fit(flat(images), labels)

    def features(x):
        hidden = flat(x)
        for weights, bias in zip(network.coefs_[:-1], network.intercepts_[:-1], strict=True):
            hidden = np.maximum(hidden @ weights + bias, 0)
        return hidden

    return features, lambda x: network.predict(flat(x))

"""How samples are judged: in the features of a classifier, or of principal components, and in pixels.

Distances are comparable with each other where features, rounding and the numbers of examples are the
same, and not with FIDs in the literature, whose features are Inception's. Neighbours in large sets are looked
for on the devices, split over them.
"""

import warnings
from collections.abc import Callable

import jax
import numpy as np

from jaxscore import metrics, sharding

Function = Callable[[np.ndarray], np.ndarray]


def compare(
    x: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray | None,
    features: Function,
    predict: Function | None,
    *,
    split: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, float]:
    """Distances between samples and images, by features and by pixels; by classes if there are any.

    Of fewer than FEW samples or images there is no kid. `split` is what was trained on and what was held out,
    at random, rounded as the samples are: with it there are memorisation, the share of samples nearer to
    the training images beyond what these' number explains (about 0; 1 for copies), and memorisation_z, that
    in standard deviations.
    """
    ours, theirs = features(x), features(images)
    where = devices(len(x) * len(images))
    precision, recall = metrics.precision_recall(ours, theirs, mesh=where)
    density, coverage = metrics.density_coverage(ours, theirs, mesh=where)
    flat = lambda a: a.reshape(len(a), -1)
    return {
        "frechet": metrics.frechet(ours, theirs),
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": coverage,
        **({} if min(len(x), len(images)) < FEW else {"kid": metrics.kid(ours, theirs)}),
        **({} if predict is None else {"class_kl": metrics.class_kl(predict(x), labels)}),
        "nearest_neighbour_ratio": metrics.nearest_neighbour_ratio(flat(x), flat(images), mesh=where),
        "sliced_wasserstein": metrics.sliced_wasserstein(flat(x), flat(images)),
        **({} if split is None else _memorisation(flat(x), *map(flat, split))),
    }


def _memorisation(x: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
    where = devices(len(x) * (len(train) + len(held_out)))
    found = metrics.memorisation(x, train, held_out, mesh=where)
    return {"memorisation": found.excess, "memorisation_z": found.z}


def devices(pairs: int) -> jax.sharding.Mesh | None:
    """Those of this process, if there are so many pairs of images to compare that it is worth it."""
    return sharding.mesh(devices=jax.local_devices()) if pairs >= MANY else None


FEW = 100
"""Of fewer examples a kernel distance is mostly noise: without bias, but far from its expectation."""

MANY = 10**8
"""Pairs, as of 10,000 samples and 10,000 images."""


def round_to(x: np.ndarray, parts: int) -> np.ndarray:
    """Pixels clipped to 0..1 and rounded to the grey values 0, 1/parts, ..., 1."""
    return np.round(np.clip(x, 0, 1) * parts) / parts


def classifier(
    images: np.ndarray, labels: np.ndarray, *, seed: int = 0, epochs: int = 200
) -> tuple[Function, Function]:
    """A classifier fitted to all images, as two functions of images: its last hidden layer, and the class.

    For at most so many epochs; scikit-learn stops earlier when the loss no longer falls.
    """
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

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


def principal_components(images: np.ndarray, *, components: int = 64) -> Function:
    """Coordinates along the directions in which the images vary most: features that need no labels.

    Those of at most 2,000 of the images, in float32: of photographs all would not fit in memory.
    """
    from sklearn.decomposition import PCA

    flat = lambda x: np.asarray(x, np.float32).reshape(len(x), -1)
    spread = flat(images[:: -(-len(images) // 2000)])  # over all: they may be sorted by class
    fitted = PCA(min(components, *spread.shape), svd_solver="randomized", random_state=0).fit(spread)

    def features(x):
        parts = [fitted.transform(flat(x[start : start + 500])) for start in range(0, len(x), 500)]
        return np.concatenate(parts).astype(float)

    return features

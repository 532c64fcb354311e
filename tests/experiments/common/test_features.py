import inspect

import numpy as np
import pytest
import scipy.special
import sklearn.neural_network

from experiments.common import features as features_module
from experiments.common.features import classifier, judges
from jaxscore import data, metrics

IMAGES, LABELS, _ = data.digits()


def fit(**settings):
    """The classifier's two functions, and the scikit-learn network that they are made of."""
    networks, fit = [], sklearn.neural_network.MLPClassifier.fit

    def recorded(network, *arguments):
        networks.append(network)
        return fit(network, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sklearn.neural_network.MLPClassifier, "fit", recorded)
        patch.setattr(features_module, "FITTED", {})  # other tests of this process may have fitted the same
        features, predict = classifier(IMAGES, LABELS, **settings)
    (network,) = networks
    return features, predict, network


@pytest.fixture(scope="module")
def fitted():
    return fit(seed=0)


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


def test_the_classifier_is_fitted_silently_for_so_many_epochs(recwarn):
    # scikit-learn would warn that it has not converged.
    assert fit(seed=0, epochs=2)[2].n_iter_ == 2
    assert len(recwarn) == 0


def test_by_default_there_are_as_many_epochs_as_scikit_learn_has():
    theirs = inspect.signature(sklearn.neural_network.MLPClassifier).parameters["max_iter"].default
    assert inspect.signature(classifier).parameters["epochs"].default == theirs


def test_only_classifiers_of_one_seed_are_the_same():
    one, again, other = (classifier(IMAGES, LABELS, seed=seed, epochs=1)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(one(IMAGES[:9]), again(IMAGES[:9]))
    assert not np.allclose(one(IMAGES[:9]), other(IMAGES[:9]))


# Judges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [0, 3])
def test_images_of_one_class_are_judged_without_labels(label):
    """The number of the class does not matter."""
    ((features, predict),), about = judges(IMAGES, np.full(len(IMAGES), label), IMAGES[:200], n=3)
    assert predict is None
    expected = metrics.principal_components(IMAGES[:200])(IMAGES[:9])
    np.testing.assert_array_equal(features(IMAGES[:9]), expected)
    assert about == f"{expected.shape[1]} principal components of the reference, which need no labels"


def test_classes_with_gaps_are_judged_by_classifiers():
    chosen = np.isin(LABELS, [0, 2, 7])
    found, about = judges(IMAGES[chosen], LABELS[chosen], IMAGES, n=2, epochs=20)
    assert [set(predict(IMAGES[chosen])) for _, predict in found] == [{0, 2, 7}, {0, 2, 7}]
    assert about.endswith(f"fitted to all {chosen.sum()} images")

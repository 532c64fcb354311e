"""Annealed Langevin dynamics where the score is known, and its flags."""

import jax
import numpy as np

from experiments.families import ncsn
from tests.experiments.families import small


def test_an_untrained_network_samples_a_gaussian_like_the_data():
    """The network starts at zero, so its score is that of N(0, I) in scaled coordinates.

    A Langevin step of size a = 0.065 sigma^2 maps a variance v to (1 - a / (1 + sigma^2))^2 v + 2 a.
    """
    experiment = ncsn.build(small.config("ncsn", levels=200))
    params = jax.jit(experiment.init)(jax.random.key(0))
    x = small.scaled_samples(experiment, "annealed Langevin", params)
    variance = 10.0**2
    for sigma in np.repeat(np.geomspace(10.0, 0.05, 200), 2):
        size = 0.065 * sigma**2
        variance = (1 - size / (1 + sigma**2)) ** 2 * variance + 2 * size
    deviation = np.sqrt(variance) / (1 + 0.05**2)  # the mean, given the last level
    # 8,000 numbers: 4 standard errors.
    np.testing.assert_allclose(np.mean(x), 0, atol=4 * deviation / np.sqrt(8000))
    np.testing.assert_allclose(np.std(x), deviation, rtol=4 / np.sqrt(16_000))

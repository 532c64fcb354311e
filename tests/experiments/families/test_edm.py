"""EDM's sampler where the score is known, and its flags."""

import jax
import numpy as np

from experiments.families import edm
from tests.experiments.families import small


def test_an_untrained_network_samples_a_gaussian_like_the_data():
    """The network starts at zero, so its score is that of N(0, I) in scaled coordinates."""
    experiment = edm.build(small.config("edm", levels=(18, 2)))
    params = jax.jit(experiment.init)(jax.random.key(0))
    x = small.scaled_samples(experiment, "Heun, 18 levels", params)
    # 8,000 numbers: 4 standard errors; the few levels make an error of 3 %.
    np.testing.assert_allclose(np.mean(x), 0, atol=4 / np.sqrt(8000))
    np.testing.assert_allclose(np.std(x), 1, atol=0.03 + 4 / np.sqrt(16_000))

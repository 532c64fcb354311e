"""EDM's sampler where the score is known, and its flags."""

import jax
import numpy as np

from experiments.families import edm
from experiments.families import setting as settings
from jaxscore import noise
from tests.experiments.families import small


def test_an_untrained_network_samples_a_gaussian_like_the_data():
    """The network starts at zero, so its score is that of N(0, I) in scaled coordinates."""
    experiment = edm.build(small.config("edm", levels=(18, 2)))
    params = jax.jit(experiment.init)(jax.random.key(0))
    draw = jax.jit(experiment.samplers["Heun, 18 levels"])
    (x,) = draw(params, noise.row_keys(jax.random.key(1), 4000)).values()
    x = settings.of("25gaussians").scaled(np.asarray(x))
    # 8,000 numbers: 4 standard errors; the few levels make an error of 3 %.
    np.testing.assert_allclose(np.mean(x), 0, atol=4 / np.sqrt(8000))
    np.testing.assert_allclose(np.std(x), 1, atol=0.03 + 4 / np.sqrt(16_000))


def test_n_levels_cost_2_n_minus_1_evaluations():
    assert edm.evaluations(edm.Config()) == {"Heun, 18 levels": 35, "Heun, 5 levels": 9}

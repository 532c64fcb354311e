"""The two samplers of the autoencoder, and its networks for each kind of data."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.families import setting as settings
from experiments.families import vae
from jaxscore import noise
from tests.experiments.families import small


def test_drawn_samples_are_the_mean_and_learned_noise():
    """But for noise below the floor, which is raised to it."""
    setting, config = settings.of("25gaussians"), small.config("vae", floor=-4.0)
    experiment = vae.build(config)
    params = jax.jit(experiment.init)(jax.random.key(0)) | {"log_scale": jnp.array([-1.0, -9.0])}
    keys = lambda: noise.row_keys(jax.random.key(1), 2000)
    mean, drawn = (experiment.samplers[name](params, keys())[name] for name in ("mean", "drawn"))
    spread = np.std(np.asarray(drawn - mean), axis=0) / setting.std
    # 2,000 draws: 4 standard errors of a standard deviation.
    np.testing.assert_allclose(spread, np.exp([-1.0, -4.0]), rtol=4 / np.sqrt(4000))

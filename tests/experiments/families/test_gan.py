"""The generator is dense or convolutional, depending on the data."""

import jax
import jax.numpy as jnp
import pytest

from experiments.families import gan
from experiments.families import setting as settings
from jaxscore.networks import Decoder, DenseGenerator
from tests.experiments.families import small


@pytest.mark.parametrize(
    ("setting", "kind"), [(settings.of("25gaussians"), DenseGenerator), (small.images(16), Decoder)]
)
def test_the_generator_makes_an_example_of_a_latent(setting, kind):
    network = gan.generator_of(small.config("gan"), setting)
    assert isinstance(network, kind)
    x, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), jnp.zeros((3, 4)))
    assert x.shape == (3, *setting.event)

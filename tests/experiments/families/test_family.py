"""Common parts of the families."""

import jax
import pytest

from experiments.families import family
from experiments.families import setting as settings
from jaxscore.networks import MLP, UNet
from tests.experiments.families import small


@pytest.mark.parametrize(("setting", "kind"), [(settings.of("digits"), MLP), (small.images(16), UNet)])
def test_small_examples_have_dense_layers_and_large_ones_a_u_net(setting, kind):
    network = family.score_network(family.Config(convolutions=family.Convolutions(channels=4)), setting)
    assert isinstance(network, kind)
    x, c_noise = family.zeros(setting, 2)
    out, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), x, c_noise)
    assert out.shape == (2, *setting.event)

"""Common parts of the GAN and the denoising diffusion GAN."""

import jax.numpy as jnp

from experiments.families import adversaries
from experiments.families import setting as settings
from jaxscore.launch import Player
from jaxscore.networks import DenseDiscriminator
from tests.experiments.families import small


def test_players_have_their_optimiser_the_generator_an_average():
    config = small.config("gan", discriminator_optimizer=adversaries.adam(1e-4))
    first, second = (lambda *of: (0.0, {})), (lambda *of: (1.0, {}))
    parts = adversaries.players(config, first, second)
    assert parts["players"] == {
        "discriminator": Player(first, config.discriminator_optimizer),
        "generator": Player(second, config.optimizer),
    }
    assert parts["averaged"]({"generator": 1, "discriminator": 2}) == 1


def test_points_have_a_dense_discriminator_of_the_flags_size():
    config = small.config("gan", discriminator_width=5, discriminator_depth=2, group=3)
    network = adversaries.discriminator(config, settings.of("25gaussians"))
    assert isinstance(network, DenseDiscriminator)
    assert (network.width, network.depth, network.group) == (5, 2, 3)


def test_the_penalty_is_added_at_multiples_of_the_interval():
    losses, penalty = jnp.array([1.0, 3.0]), lambda: jnp.array([10.0, 20.0])
    value = lambda step, **changes: float(
        adversaries.penalised(small.config("gan", **changes), jnp.asarray(step), losses, penalty)
    )
    assert [value(step, penalty=0.1, interval=2) for step in range(4)] == [3.5, 2.0, 3.5, 2.0]
    assert value(0, penalty=0.0) == 2.0

"""The published recipes: their values, and the losses of both players traced with shapes only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.families import ddgan
from experiments.families import setting as settings
from experiments.families.ddgan_presets import PRESETS
from jaxscore import noise, sharding
from jaxscore.adversarial import denoising
from jaxscore.launch import flags, programs
from jaxscore.updates import Context
from tests.experiments.families import small
from tests.grids import rest

PUBLISHED = [name for name in PRESETS if name != "digits"]


@pytest.mark.parametrize("name", ["cifar10", "celeba_hq_256", rest("lsun_church")])
def test_they_start_given_their_data(name, monkeypatch):
    config = PRESETS[name]
    side = config.size or 32
    monkeypatch.setattr(settings, "of", lambda *source: small.images(side))
    experiment = ddgan.build(config)
    mesh = sharding.mesh(devices=jax.devices()[:1])
    state = programs.abstract_state(experiment, mesh)
    batch = programs.abstract_batch(experiment, mesh)
    assert batch["x"].shape == (config.batch, side, side, 3)
    context = Context(jax.random.key(0), state.step, state.ema)
    for player in experiment.players.values():
        loss, _ = jax.eval_shape(player.loss, state.params, context, batch)
        assert loss.shape == ()
    (draw,) = experiment.samplers.values()
    (samples,) = jax.eval_shape(draw, state.ema, noise.row_keys(jax.random.key(0), 2)).values()
    assert samples.shape == (2, side, side, 3)


@pytest.mark.parametrize(
    ("name", "epochs", "images"),
    [("cifar10", 1800, 50_000), ("celeba_hq_256", 800, 30_000), ("lsun_church", 500, 126_227)],
)
def test_steps_are_the_published_epochs(name, epochs, images):
    config = PRESETS[name]
    assert config.steps == pytest.approx(epochs * images / config.batch, rel=1e-4)


def test_rates_fall_to_the_published_one():
    adam = PRESETS["cifar10"].optimizer
    assert (adam.learning_rate, adam.final, adam.b1, adam.b2) == (1.6e-4, 1e-5, 0.5, 0.9)


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_short_trainings_gain_by_is_not_in_them(name):
    config, short = PRESETS[name], PRESETS["digits"]
    assert (config.late, config.shrink, config.group) == (False, False, 4)
    assert (short.late, short.shrink, short.group) == (True, True, 16)


@pytest.mark.parametrize("bounded", [True, False])
def test_bounded_generators_stay_within_minus_1_to_1(bounded):
    config = small.config("ddgan", data="digits", bounded=bounded)
    sigmas = denoising.levels(4)
    generate, _, init = ddgan.networks(config, settings.of("digits"), sigmas)
    params = jax.tree.map(lambda leaf: 10 * leaf, init(jax.random.key(0))["generator"])
    keys = iter(jax.random.split(jax.random.key(1)))
    x, z = jax.random.normal(next(keys), (4, 8, 8, 1)), jax.random.normal(next(keys), (4, config.latent))
    assert bool(np.abs(generate(params, x, jnp.full(4, sigmas[0]), z)).max() > 1) == (not bounded)


def test_points_have_no_pixels_to_bound():
    with pytest.raises(flags.FlagError, match="--bounded: --data 25gaussians has no pixels"):
        ddgan.build(ddgan.Config(bounded=True, data="25gaussians"))

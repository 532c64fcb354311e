"""The published recipes: what they say, and that they start, in shapes alone."""

import jax
import numpy as np
import pytest

from experiments import flags, programs
from experiments.families import ddgan
from experiments.families import setting as settings
from experiments.families.ddgan_presets import PRESETS
from jaxscore import noise, sharding

PUBLISHED = [name for name in PRESETS if name != "digits"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_they_start_given_their_data(name, monkeypatch):
    config = PRESETS[name]
    side = config.size or 32
    images = np.zeros((8, side, side, 3), np.float32)
    made = settings.Setting(name, images, images[:2], np.zeros(8), images[:1], 0.3, 255, (name,))
    monkeypatch.setattr(ddgan.settings, "of", lambda *source: made)
    experiment = ddgan.build(config)
    mesh = sharding.mesh(devices=jax.devices()[:1])
    state = programs.abstract_state(experiment, mesh)
    batch = programs.abstract_batch(experiment, mesh)
    assert batch.shape == (config.batch, side, side, 3)
    # The losses alone for large images: tracing their gradients takes a minute.
    if side == 32:
        after, _ = jax.eval_shape(programs.make_step(experiment, mesh), jax.random.key(0), state, batch)
        assert jax.tree.structure(after) == jax.tree.structure(state)
    for turn in experiment.loss:
        loss, _ = jax.eval_shape(turn.loss, state.params, jax.random.key(0), batch, state.step)
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


def test_bounded_pixels_are_scaled_to_minus_1_to_1():
    config = ddgan.Config(bounded=True, width=8, depth=1, discriminator_width=8, latent=4, mapping=1)
    experiment = ddgan.build(config)
    params = experiment.averaged(experiment.init(jax.random.key(0)))
    x = experiment.samplers["T = 4"](params, noise.row_keys(jax.random.key(1), 2))
    # The generator starts at zero, which is the middle of the range.
    np.testing.assert_allclose(x["T = 4"], 0.5, atol=1e-6)


def test_points_have_no_pixels_to_bound():
    with pytest.raises(flags.FlagError, match="--bounded: --data 25gaussians has no pixels"):
        ddgan.build(ddgan.Config(bounded=True, data="25gaussians"))

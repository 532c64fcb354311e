"""What the trilemma requires of every family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.families import setting as settings
from jaxscore import launch, noise, sharding
from jaxscore.launch import programs
from jaxscore.updates import Context
from tests.experiments.families import small


@pytest.mark.parametrize("name", small.NAMES)
def test_it_is_trained_sampled_and_judged(name, tmp_path):
    config = small.config(name)
    experiment = small.module(name).build(config)
    found = launch.run(experiment, tmp_path)
    names = small.module(name).evaluations(config)
    assert list(found["samplers"]) == list(names)
    for row in found["samplers"].values():
        assert row["finite"]
        assert row["frechet"] > 0
        assert 0 <= row["modes"] <= 25
    assert found["settings"]["n"] == 16
    assert found["settings"]["extractor"] == "coordinates"
    assert ("bits" in found) == (name in ("vae", "flow"))
    assert (tmp_path / "report" / "samples.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["gan", "vae", "flow", "ddgan", "ncsn"])
def test_a_sample_depends_on_its_key_alone(name):
    experiment = small.module(name).build(small.config(name))
    params = experiment.averaged(experiment.init(jax.random.key(0)))
    keys = lambda: noise.row_keys(jax.random.key(1), 6)
    for label, draw in experiment.samplers.items():
        whole, part = draw(params, keys())[label], draw(params, keys()[2:4])[label]
        np.testing.assert_allclose(whole[2:4], part, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", small.SCORES)
def test_evaluations_are_counted(name, monkeypatch):
    """The network's calls, in a sampler that is not compiled and so runs each of them."""
    config = small.config(name)
    family = small.module(name).family
    calls, real = [], family.score_network(config, settings.of("25gaussians"))

    class Counted:
        init = staticmethod(real.init)

        def apply(self, *arguments):
            jax.debug.callback(lambda: calls.append(1))
            return real.apply(*arguments)

    monkeypatch.setattr(family, "score_network", lambda *arguments: Counted())
    experiment = small.module(name).build(config)
    params = experiment.init(jax.random.key(0))
    for label, count in small.module(name).evaluations(config).items():
        calls.clear()
        jax.block_until_ready(experiment.samplers[label](params, noise.row_keys(jax.random.key(1), 2)))
        jax.effects_barrier()
        assert len(calls) == count, label


@pytest.mark.parametrize("name", ["gan", "ddgan", "vae", "edm"])
def test_images_have_convolutions(name):
    """Shapes alone, of images too large for dense layers: nothing is compiled."""
    images = np.random.default_rng(0).random((40, 16, 16, 3)).astype(np.float32)
    setting = settings.Setting("made", images, images[:4], np.zeros(40), images[:1], 0.3, 255, ("made",))
    config = small.config(name, convolutions=small.module(name).family.Convolutions(channels=4))
    module = small.module(name)
    original, module.settings = module.settings, type("Made", (), {"of": staticmethod(lambda *_: setting)})
    try:
        experiment = module.build(config)
    finally:
        module.settings = original
    mesh = sharding.mesh(devices=jax.devices()[:1])
    state = programs.abstract_state(experiment, mesh)
    assert any(leaf.ndim == 4 for leaf in jax.tree.leaves(state.ema))
    step = programs.make_step(experiment, mesh)
    _, found = jax.eval_shape(step, jax.random.key(0), state, programs.abstract_batch(experiment, mesh))
    assert found["loss"].shape == ()
    for label, draw in experiment.samplers.items():
        keys = noise.row_keys(jax.random.key(0), 2)
        assert jax.eval_shape(draw, state.ema, keys)[label].shape == (2, 16, 16, 3)


def test_the_penalty_is_in_the_loss_at_its_steps_only():
    """The loss is the discriminator's."""
    module, config = small.module("gan"), small.config("gan", penalty=1.0, interval=2)
    experiment = module.build(config)
    params = experiment.init(jax.random.key(0))
    batch = jax.tree.map(jnp.asarray, next(experiment.batches(batch=config.batch, seed=0)))
    loss = experiment.players["discriminator"].loss
    value = lambda step: float(loss(params, Context(jax.random.key(1), jnp.asarray(step), ()), batch)[0])
    assert value(0) == value(2) > value(1) == value(3)


@pytest.mark.parametrize(("late", "shares"), [(True, [3.7, 17.4, 44.8, 62.1]), (False, [32, 32, 32, 32])])
def test_late_steps_are_trained_more_often(late, shares, monkeypatch):
    module = small.module("ddgan")
    config = small.config("ddgan", batch=128, late=late)
    experiment = module.build(config)
    seen, real = [], module.denoising.pair
    monkeypatch.setattr(module.denoising, "pair", lambda *a: seen.append(a[2]) or real(*a))
    params = experiment.init(jax.random.key(0))
    batch = jax.tree.map(jnp.asarray, next(experiment.batches(batch=config.batch, seed=0)))
    experiment.players["generator"].loss(params, Context(jax.random.key(1), jnp.asarray(0), ()), batch)
    sigmas = module.denoising.levels(4)
    counts = [int(np.sum(np.asarray(seen[0]) == sigma)) for sigma in sigmas[:-1]]
    np.testing.assert_allclose(counts, shares, atol=1)

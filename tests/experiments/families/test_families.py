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
from tests.grids import rest


@pytest.mark.parametrize(
    ("name", "cheaper"),
    [
        ("vae", {}),
        ("flow", {"knots": 0}),
        ("ddpm", {}),
        ("ddgan", {"penalty": 0.0}),
        ("distilled", {}),
        rest("consistency", {}),
        rest("consistency", {"continuous": True}),
        rest("distilled", {"continuous": True}),
        rest("reflow", {}),
        rest("gan", {}),  # as tests/experiments/trilemma does
        rest("edm", {}),  # that, too
        rest("ncsn", {}),
        rest("flow", {}),
        rest("ddgan", {}),
    ],
)
def test_it_is_trained_sampled_and_judged(name, cheaper, tmp_path):
    module, config = small.module(name), small.config(name, **cheaper)
    found = launch.run(module.build(config), tmp_path)
    assert list(found["samplers"]) == list(module.evaluations(config))
    for row in found["samplers"].values():
        assert row["finite"]
        assert row["frechet"] > 0
        assert 0 <= row["modes"] <= 25
    assert (found["settings"]["n"], found["settings"]["extractor"]) == (16, "coordinates")
    assert ("bits" in found) == (name in ("vae", "flow"))
    assert (tmp_path / "report" / "samples.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["gan", "vae", "flow", "ddgan", "ncsn", "consistency"])
def test_a_sample_depends_on_its_key_alone(name):
    experiment = small.module(name).build(small.config(name))
    params = experiment.averaged(jax.jit(experiment.init)(jax.random.key(0)))
    keys = lambda: noise.row_keys(jax.random.key(1), 6)
    for label, draw in experiment.samplers.items():
        whole, part = jax.jit(draw)(params, keys())[label], jax.jit(draw)(params, keys()[2:4])[label]
        np.testing.assert_allclose(whole[2:4], part, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gan", {"one pass": 1}),
        ("vae", {"mean": 1, "drawn": 1}),
        ("flow", {"one pass": 1}),
        ("ddgan", {"T = 4": 4}),
        ("ddpm", {"ancestral": 1000, "DDIM": 10}),
        ("ncsn", {"annealed Langevin": 401}),
        ("edm", {"Heun, 18 levels": 35, "Heun, 5 levels": 9}),
        ("consistency", {"one step": 1, "two steps": 2}),
        ("distilled", {"one step": 1, "two steps": 2}),
        ("reflow", {"one step": 1, "two steps": 2}),
    ],
)
def test_evaluations_of_the_recipes(name, expected):
    assert small.module(name).evaluations(small.module(name).Config()) == expected


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
    params = experiment.averaged(jax.jit(experiment.init)(jax.random.key(0)))
    for label, count in small.module(name).evaluations(config).items():
        calls.clear()
        jax.block_until_ready(experiment.samplers[label](params, noise.row_keys(jax.random.key(1), 2)))
        jax.effects_barrier()
        assert len(calls) == count, label


@pytest.mark.parametrize("name", ["gan", "ddgan", "vae", "edm"])
def test_images_have_convolutions(name, monkeypatch):
    """Shapes alone, of images too large for dense layers: nothing is compiled."""
    monkeypatch.setattr(settings, "of", lambda *source: small.images(16))
    module = small.module(name)
    experiment = module.build(small.config(name, convolutions=module.family.Convolutions(channels=4)))
    mesh = sharding.mesh(devices=jax.devices()[:1])
    state = programs.abstract_state(experiment, mesh)
    assert any(leaf.ndim == 4 for leaf in jax.tree.leaves(state.ema))
    step = programs.make_step(experiment, mesh)
    _, found = jax.eval_shape(step, jax.random.key(0), state, programs.abstract_batch(experiment, mesh))
    assert found["loss"].shape == ()
    for label, draw in experiment.samplers.items():
        keys = noise.row_keys(jax.random.key(0), 2)
        assert jax.eval_shape(draw, state.ema, keys)[label].shape == (2, 16, 16, 3)


@pytest.mark.parametrize(("late", "shares"), [(True, [3.7, 17.4, 44.8, 62.1]), (False, [32, 32, 32, 32])])
def test_late_steps_are_trained_more_often(late, shares, monkeypatch):
    module, seen = small.module("ddgan"), []
    experiment, real = module.build(small.config("ddgan", batch=128, late=late)), module.denoising.pair
    monkeypatch.setattr(module.denoising, "pair", lambda *a: seen.append(a[2]) or real(*a))

    @jax.jit
    def levels(params, batch):
        context = Context(jax.random.key(1), jnp.asarray(0), ())
        experiment.players["generator"].loss(params, context, batch)
        return seen[0]

    batch = next(experiment.batches(batch=128, seed=0))
    found = levels(jax.eval_shape(experiment.init, jax.random.key(0)), batch)
    counts = [int(np.sum(np.asarray(found) == sigma)) for sigma in module.denoising.levels(4)[:-1]]
    np.testing.assert_allclose(counts, shares, atol=1)

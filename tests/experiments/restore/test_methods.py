"""The methods on images that are Gaussian, whose posterior is known."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common.langevin import Langevin
from experiments.restore import methods as module
from experiments.restore.config import Config
from experiments.restore.config import operator as operator_of
from experiments.restore.methods import Problem, methods, prepared, unconditional
from jaxscore import inverse, mixtures, noise, samplers
from jaxscore.inverse import operators
from jaxscore.launch import Run
from jaxscore.launch.experiment import Units, balanced

EVENT, STD = (4, 4, 1), 0.4
MEAN = jnp.linspace(-0.5, 0.5, 16).reshape(EVENT)


def score(params, x, sigma, condition=None):
    return (params[None] - x) / (STD**2 + sigma**2).reshape(-1, 1, 1, 1)


def run_of(**changes):
    experiment = {
        "score": score,
        "conditions": None,
        "units": Units(),
        "config": types.SimpleNamespace(),
    } | changes
    return Run(types.SimpleNamespace(**experiment), MEAN, 0)


def posed(config):
    moments = samplers.Moments(MEAN, jnp.full(16, STD**2), jnp.eye(16))
    sigmas = noise.levels(noise.karras(0.01, 10.0), 60)
    dynamics = Langevin(levels=30, steps=10, step_size=0.2, sigma_min=0.02, sigma_max=2.0)
    operator = prepared(operator_of(config, EVENT), EVENT)
    return Problem(config, run_of(), None, operator, config.noise, moments, STD, sigmas, dynamics)


def drawn(config, n=512):
    """Draws of every method for one measurement, and the posterior."""
    problem = posed(config)
    x = MEAN + STD * noise.normal(jax.random.key(0), EVENT)
    y = problem.operator.apply(x[None]) + 0.1
    prior = mixtures.isotropic([1.0], MEAN.reshape(1, -1), STD)
    truth = inverse.exact.posterior(prior, problem.operator, y[0], noise=config.noise, event=EVENT)
    rows = lambda: noise.row_keys(jax.random.key(1), n)
    found = {}
    for name, draw in methods(problem).items():
        found[name] = np.asarray(jax.jit(draw)(MEAN, rows(), jnp.repeat(y, n, axis=0)), float)
    return problem, np.asarray(y), found, truth


def test_methods_that_are_exact_for_gaussian_images_are():
    config = Config(factor=2, noise=0.2, samples=512, methods=("gaussian", "pigdm", "particles"))
    _, _, found, truth = drawn(config)
    mean, covariance = (np.asarray(each, float) for each in mixtures.moments(truth))
    std = np.sqrt(np.diag(covariance))
    for name, x in found.items():
        flat = x.reshape(len(x), -1)
        # 5 standard errors of 512 draws; ancestral steps narrow the draws, and particles are fewer.
        room = {"gaussian": 0.0, "pigdm": 0.05, "particles": 0.15}[name]
        np.testing.assert_allclose(
            flat.mean(axis=0), mean, atol=(5 / 512**0.5 + room) * std.max(), err_msg=name
        )
        np.testing.assert_allclose(flat.std(axis=0).mean(), std.mean(), rtol=0.03 + 2 * room, err_msg=name)


def test_the_others_agree_with_the_measurement():
    names = ("pseudo_inverse", "diffpir", "decoupled", "ddnm", "dps")
    problem, y, found, _ = drawn(Config(factor=2, noise=0.05, samples=16, methods=names), n=64)
    assert tuple(found) == tuple(name for name in Config(methods=names).chosen)
    for name, x in found.items():
        seen = np.asarray(problem.operator.apply(jnp.asarray(x, jnp.float32)))
        room = 0.5 if name == "dps" else 0.12  # DPS does not know the noise
        assert np.abs(seen.mean(axis=0) - y[0]).max() < room, name


def test_known_pixels_are_kept():
    names = ("replacement", "repaint")
    problem, y, found, _ = drawn(Config(problem="inpaint", noise=0.0, samples=16, methods=names), n=64)
    mask = np.zeros(EVENT, bool)
    mask[:, :2] = True
    for name, atol in (("replacement", 1e-6), ("repaint", 0.05)):
        known = found[name][:, mask]
        np.testing.assert_allclose(known, np.broadcast_to(y, known.shape), atol=atol)
    free = found["replacement"][:, ~mask]  # independent of the known ones: the prior
    # 64 draws of 8 pixels: 4 standard errors; Langevin dynamics leaves a few percent.
    np.testing.assert_allclose(free.mean(axis=0), np.asarray(MEAN)[~mask], atol=4 * STD / 8)
    np.testing.assert_allclose(free.std(), np.hypot(STD, np.asarray(MEAN)[~mask].std()), rtol=0.15)
    assert problem.event == EVENT


def test_particles_of_an_image_do_not_see_other_images():
    config = Config(factor=2, noise=0.2, samples=16, methods=("particles",))
    problem = posed(config)
    draw = jax.jit(methods(problem)["particles"])
    y = problem.operator.apply(noise.normal(jax.random.key(2), (2, *EVENT)))
    rows = lambda: noise.row_keys(jax.random.key(3), 32)
    both = draw(MEAN, rows(), jnp.repeat(y, 16, axis=0))
    alone = draw(MEAN, rows()[:16], jnp.repeat(y[:1], 16, axis=0))
    np.testing.assert_allclose(both[:16], alone, rtol=1e-4, atol=1e-5)


def test_small_measurements_are_solved_exactly(monkeypatch):
    operator = operators.radon(np.array([0.0, 50.0]), EVENT)
    assert prepared(operator, EVENT).solve is not None
    monkeypatch.setattr(module, "FACTORED", 4)
    assert prepared(operator, EVENT).solve is None
    assert prepared(operators.phase_retrieval(), EVENT).adjoint is None


def test_scores_with_classes_are_taken_without_one():
    given = {"conditions": balanced(10), "config": types.SimpleNamespace(p_uncond=0.1)}
    assert unconditional(run_of(**given)) == 10
    assert unconditional(run_of()) is None
    given["config"] = types.SimpleNamespace(p_uncond=0.0)
    with pytest.raises(ValueError, match="trained without conditions"):
        unconditional(run_of(**given))
    vectors = {"conditions": lambda n: jnp.ones((len(n), 2)), "config": types.SimpleNamespace(p_uncond=0.1)}
    with pytest.raises(ValueError, match="its score needs a condition"):
        unconditional(run_of(**vectors))

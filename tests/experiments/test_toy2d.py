import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import toy2d
from jaxscore import launch, mixtures
from jaxscore.launch import workdir
from jaxscore.launch.flags import FlagError
from jaxscore.updates import Context
from tests.experiments.pictures import ink
from tests.grids import rest


def context(seed=1):
    return Context(jax.random.key(seed), jnp.int32(0), ())


def small(**changes) -> toy2d.Config:
    fields = {"steps": 4, "batch": 16, "width": 8, "depth": 1, "points": 500, "levels": 5}
    fields |= {"langevin_steps": 2, "samples": 30, "sample_batch": 16, "log_every": 2, "save_every": 4}
    return toy2d.Config(**fields | changes)


def test_the_untrained_loss_is_that_of_the_gaussian_at_the_start():
    experiment = toy2d.build(small(batch=4096))
    params = jax.jit(experiment.init)(jax.random.key(0))
    points = next(experiment.batches(batch=4096, seed=0))["x"]
    value, metrics = jax.jit(experiment.loss)(params, context(), {"x": points})
    bins = metrics["by_sigma"]
    assert bins["count"].sum() == 4096
    np.testing.assert_allclose(bins["total"].sum() / 4096, value, rtol=1e-5)  # sums of float32
    # Zero output: sigma s + n = (v - sigma^2) n / v - sigma x / v with v = sigma^2 + std^2, whose
    # expected half square over 2 dimensions of mean square std^2 is std^2 / v.
    std, sigma = points.std(), np.geomspace(small().sigma_min / 2, small().sigma_max * 1.25, 10_001)
    expected = np.mean(std**2 / (sigma**2 + std**2))
    np.testing.assert_allclose(value, expected, rtol=0.05)  # 4096 draws of spread about 1: 1.6 %


def test_both_samplers_start_alike_and_a_row_is_its_own():
    experiment = toy2d.build(small(langevin_steps=1))
    params = jax.jit(experiment.init)(jax.random.key(0))
    keys = lambda: jax.random.split(jax.random.key(1), 6)
    for sampler in experiment.samplers.values():
        x = jax.jit(sampler)(params, keys())
        assert (x.shape, x.dtype) == ((6, 2), jnp.float32)
        assert np.isfinite(x).all()
        # The last two rows by themselves; matrix products of other sizes round differently.
        np.testing.assert_allclose(jax.jit(sampler)(params, keys()[4:]), x[4:], rtol=1e-5, atol=1e-5)


# Evaluation -----------------------------------------------------------------------------------

MIXTURE = mixtures.two_modes(weight=0.7)
SIGMAS = jnp.array([8.0, 1.0, 0.15])


def exact(params, x, sigma):
    return params * mixtures.score(MIXTURE, x, sigma)


@pytest.fixture(scope="module")
def draws():
    one_mode = np.tile(np.asarray(MIXTURE.means[1]), (50, 1))
    return {"annealed": np.asarray(mixtures.draw(jax.random.key(5), MIXTURE, 20_000)), "plain": one_mode}


def test_the_exact_score_has_no_error(draws):
    """Exact draws have the true weights, and points in one mode have its weight alone."""
    found = toy2d.evaluate(toy2d.Config(), MIXTURE, exact, SIGMAS, 1.0, draws)
    assert [row["relative_rms"] for row in found["score_error"]] == [0.0, 0.0, 0.0]
    np.testing.assert_allclose([row["sigma"] for row in found["score_error"]], SIGMAS)
    np.testing.assert_allclose(found["mode_weights"]["truth"], [0.7, 0.3], rtol=1e-6)
    # The share of 20,000 draws has a standard deviation of 0.0032.
    np.testing.assert_allclose(found["mode_weights"]["annealed"], [0.7, 0.3], atol=0.013)
    assert found["mode_weights"]["plain"] == [0.0, 1.0]
    assert json.loads(json.dumps(found)) == found


def test_the_error_is_relative(draws):
    found = toy2d.evaluate(toy2d.Config(), MIXTURE, exact, SIGMAS, 1.1, draws)
    errors = [row["relative_rms"] for row in found["score_error"]]
    np.testing.assert_allclose(errors, 0.1, rtol=1e-4)  # (1.1 - 1) in float32


def test_the_table_has_the_worst_level_and_the_weights():
    levels = {8.0: 1, 4.0: 2, 2.0: 9, 1.0: 4, 0.5: 5}
    errors = [{"sigma": sigma, "relative_rms": error} for sigma, error in levels.items()]
    weights = {"truth": [0.7, 0.3], "plain": [0.5, 0.5], "annealed": [0.69, 0.31]}
    rows = toy2d.table({"score_error": errors, "mode_weights": weights})
    assert len({len(row) for row in rows}) == 1
    assert {("sigma", "8", "1.0000"), ("sigma", "0.5", "5.0000"), ("worst", "2", "9.0000")} <= set(rows)
    assert [row[2] for row in rows[-3:]] == ["0.7000", "0.5000", "0.6900"]


@pytest.mark.parametrize(
    ("objective", "model"),
    [rest("implicit", "field"), ("sliced", "energy"), rest("finite_difference", "field")],
)
def test_every_objectives_gradient_is_denoisings_on_average(objective, model):
    """Along the direction of the parameters themselves; so each of them trains the same score."""
    common = {"batch": 8192, "points": 8192, "sigma_min": 0.5, "sigma_max": 2.0, "width": 8}
    experiment = toy2d.build(small(objective=objective, model=model, **common))
    reference = toy2d.build(small(model=model, **common))
    init = jax.jit(experiment.init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: p + 0.2 * rng.standard_normal(p.shape).astype(np.float32), init)

    def slopes(experiment):
        loss = lambda t, *of: experiment.loss(jax.tree.map(lambda p: (1 + t) * p, params), *of)[0]
        slope, stream = jax.jit(jax.grad(loss)), experiment.batches(batch=8192, seed=0)
        return np.array([slope(0.0, context(k), next(stream)) for k in range(6)])

    found, expected = slopes(experiment), slopes(reference)
    difference = found - expected
    # Six batches, with the same points and noise in both: 4 standard errors, themselves known to 30 %.
    error = difference.std(ddof=1) / np.sqrt(6)
    assert abs(difference.mean()) <= 5 * error + 1e-6
    assert error < 0.1 * abs(expected.mean())


@pytest.mark.parametrize(
    ("activation", "objective", "model"),
    [
        ("relu", "sliced", "field"),
        ("relu", "implicit", "field"),
        ("relu", "denoising", "energy"),
        ("elu", "finite_difference", "energy"),
    ],
)
def test_kinks_that_an_objective_cannot_see_are_refused(activation, objective, model):
    with pytest.raises(FlagError, match=f"--activation {activation}: has kinks .* use silu or softplus"):
        small(activation=activation, objective=objective, model=model)
    small(activation="silu", objective=objective, model=model)
    small(activation="relu")  # denoising a field takes no derivative


# A run ----------------------------------------------------------------------------------------


def test_a_small_run_makes_everything(tmp_path):
    folder = tmp_path / "run"
    metrics = launch.run(toy2d.build(small()), folder)
    samples, _ = workdir.read_samples(folder / "samples.npz")
    assert {name: x.shape for name, x in samples.items()} == {"plain": (30, 2), "annealed": (30, 2)}
    assert len(metrics["score_error"]) == 5
    assert set(metrics["mode_weights"]) == {"truth", "plain", "annealed"}
    assert {path.name for path in (folder / "report").glob("*.png")} == {"story.png", "loss.png"}
    assert min(map(ink, (folder / "report").glob("*.png"))) > 0.02

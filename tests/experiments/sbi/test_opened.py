"""A trained run that is asked for the posterior of one's own observation."""

import jax
import numpy as np
import pytest

from experiments import sbi
from experiments.sbi.config import Config, Sampling
from jaxscore import launch, noise
from jaxscore.launch import Optimizer
from tests.experiments.sbi import tiny

pytestmark = tiny.needs_package


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of gaussian_linear that has learnt a little."""
    small = {"width": 48, "embedding": 16, "steps": 600, "batch": 128, "save_every": 300, "log_every": 300}
    small |= {"optimizer": Optimizer(learning_rate=5e-3, decay=1.0), "ema_decay": 0.98, "simulations": 4000}
    small |= {"sampling": Sampling(levels=16, sigma_min=0.02), "held_out": 0.05}
    config = tiny.config(tmp_path_factory.mktemp("opened"), "gaussian_linear", **small)
    launch.run(sbi.build(config), config.workdir, mode="train")
    return launch.open_run(config.workdir, sbi.build, Config)


Y = np.linspace(-0.4, 0.6, 10).astype(np.float32)


def exact(theta):
    return -0.5 * np.sum((theta - Y / 2) ** 2 / 0.05 + np.log(2 * np.pi * 0.05), axis=1)


def test_draws_and_densities_are_near_the_exact_posterior(run):
    theta = np.asarray(sbi.draw(run, jax.random.key(0), Y, 400))
    assert theta.shape == (400, 10)
    np.testing.assert_allclose(theta.mean(axis=0), Y / 2, atol=0.08)  # a third of a standard deviation
    np.testing.assert_allclose(theta.std(axis=0), np.sqrt(0.05), rtol=0.2)
    truth = (Y / 2 + np.sqrt(0.05) * np.random.default_rng(0).standard_normal((16, 10))).astype(np.float32)
    found = np.asarray(sbi.log_density(run, jax.random.key(1), truth, Y))
    # The prior would be wrong by more than 3 nats on average.
    assert np.abs(found - exact(truth)).mean() < 1.2
    assert 0.3 < np.exp(found - exact(truth)).mean() < 2


def test_several_observations_are_each_what_they_are_alone(run):
    ys, key = np.stack([Y, Y + 0.3, -Y]), jax.random.key(2)
    together = sbi.draw_each(run, key, ys, 7)
    assert together.shape == (3, 7, 10)
    keys = noise.row_keys(key, 3)
    for number in range(3):
        alone = sbi.draw_each(run, keys[number : number + 1], ys[number : number + 1], 7)[0]
        np.testing.assert_allclose(together[number], alone, atol=1e-5)
    few = sbi.draw(run, jax.random.key(3), Y, 3)
    np.testing.assert_allclose(sbi.draw(run, jax.random.key(3), Y, 5)[:3], few, atol=1e-5)


@pytest.mark.parametrize("function", ["draw", "log_density"])
def test_a_batch_is_not_taken_for_one_observation(run, function):
    """Neither are data of another task."""
    last = 3 if function == "draw" else Y
    given = (Y[None].repeat(5, axis=0), last) if function == "draw" else (Y[None], Y[None].repeat(5, axis=0))
    with pytest.raises(
        ValueError, match=r"y has shape \(5, 10\); it must be one observation \[10\]; draw_each"
    ):
        getattr(sbi, function)(run, jax.random.key(0), *given)
    with pytest.raises(ValueError, match=r"y has shape \(8,\)"):
        sbi.draw(run, jax.random.key(0), Y[:8], 3)
    with pytest.raises(ValueError, match=r"ys has shape \(10,\)"):
        sbi.draw_each(run, jax.random.key(0), Y, 3)


def test_an_observation_far_from_all_simulations_is_answered(run):
    """In the same time as any other, because nothing is rejected; the draws are finite."""
    theta = sbi.draw_each(run, jax.random.key(0), np.stack([Y, np.full(10, 50.0, np.float32)]), 20)
    assert np.isfinite(theta).all()
    with pytest.raises(ValueError, match="not finite"):
        sbi.draw(run, jax.random.key(0), np.full(10, np.inf, np.float32), 3)


@pytest.mark.parametrize(
    ("y", "n", "said"),
    [
        (np.full(10, 1e39), 3, "the observation has values that are not finite"),  # beyond float32
        (np.full(10, 1e30), 3, "draws for 1 of 1 observations are not finite; they lie too far away"),
        (np.full(10, 1j), 3, "the observation is complex"),
        (Y, 0, "n = 0: the number of draws must be an integer of at least 1"),
        (Y, True, "n = True: the number of draws"),
    ],
)
def test_what_has_no_answer_is_refused(run, y, n, said):
    with pytest.raises(ValueError, match=said):
        sbi.draw(run, jax.random.key(0), y, n)
    with pytest.raises(ValueError, match="theta has values that are not finite"):
        sbi.log_density(run, jax.random.key(0), np.full((1, 10), np.nan, np.float32), Y)
    with pytest.raises(ValueError, match="at least one observation is needed"):
        sbi.draw_each(run, jax.random.key(0), np.zeros((0, 10), np.float32), 3)

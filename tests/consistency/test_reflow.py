"""Reflow: the pairs are ends of one flow, and one step of the new flow goes where many of the old one did."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxscore import consistency, mixtures, noise, objectives, samplers, trainer
from jaxscore.score import preconditioned
from tests.consistency.gaussian import S0, init, network
from tests.consistency.gaussian import score as gaussian

KEY = jax.random.key
SIGMAS = noise.levels(noise.karras(0.01, 20.0), 24)
TWO = mixtures.isotropic([0.5, 0.5], [[1.0, 0.0], [-1.0, 0.0]], 0.1)


def test_pairs_are_both_ends_of_the_flow():
    x, n = consistency.pairs(KEY(0), (500, 2), SIGMAS, gaussian, samplers.heun())
    start = x + 20.0 * n
    # The pairs are those of the flow of N(0, S0^2 I), by 24 steps of Heun's method.
    np.testing.assert_allclose(x, start * S0 / np.sqrt(S0**2 + 20.0**2), rtol=2e-2)
    np.testing.assert_allclose(start.std(), 20.0, rtol=4 / np.sqrt(2000))
    ends = samplers.generate(KEY(0), (500, 2), SIGMAS, gaussian, samplers.heun())
    np.testing.assert_array_equal(x, ends)
    row, _ = consistency.pairs(noise.row_keys(KEY(0), 500)[7:8], (2,), SIGMAS, gaussian, samplers.heun())
    np.testing.assert_allclose(row, x[7:8], rtol=1e-5)


def test_reflow_is_denoising_with_given_noise():
    x, sigma = noise.normal(KEY(0), (64, 2)), jnp.linspace(0.1, 5.0, 64)
    ours = consistency.reflow(noise.normal(KEY(1), x.shape))(gaussian, KEY(2), x, sigma)
    np.testing.assert_allclose(ours, objectives.denoising(gaussian, KEY(1), x, sigma), rtol=1e-4)


def test_one_step_of_the_new_flow_finds_both_modes():
    """Fraction of samples within 0.3, three standard deviations, of a mode; the teacher has none."""
    teacher, start = functools.partial(mixtures.score, TWO), jnp.array([20.0, 0.0])
    x, n = jax.jit(lambda key: consistency.pairs(key, (4096, 2), SIGMAS, teacher, samplers.heun()))(KEY(0))
    score = preconditioned(network, 0.7)

    def loss(params, context, batch):
        losses = objectives.over_levels(
            consistency.reflow(batch["n"]), noise.flow(t_max=0.95), weight=objectives.edm(0.7)
        )
        return losses(functools.partial(score, params), context.key, batch["x"]).mean(), {}

    tx = optax.adam(optax.linear_schedule(1e-2, 0.0, 600), b2=0.99)
    state = trainer.fit(loss, init, {"x": x, "n": n}, steps=600, batch=256, tx=tx, key=KEY(1))

    def near(score):
        x = samplers.generate(KEY(2), (2000, 2), start, score, samplers.euler())
        away = jnp.linalg.norm(x[:, None] - TWO.means[None], axis=2)
        return float((away.min(axis=1) < 0.3).mean())

    found = near(functools.partial(score, state.params))
    assert near(teacher) < 0.01
    assert found > 0.75  # 0.82 was measured


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: consistency.reflow(x[:, :1])(gaussian, KEY(0), x, 1.0), "the noise has shape"),
        (lambda x: consistency.reflow(x)(lambda x, s: x[:2], KEY(0), x, 1.0), "the score has shape"),
        (
            lambda x: consistency.pairs(KEY(0), (8, 2), jnp.arange(3.0), gaussian, samplers.heun()),
            "must be finite and positive, and must not go up",
        ),
    ],
)
def test_bad_input_is_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((8, 2)))


def test_pairs_of_levels_that_do_not_end_in_zero_are_refused():
    """The ends would have noise."""
    score = lambda x, sigma: -x / (1 + sigma[:, None] ** 2)
    with pytest.raises(ValueError, match="must end in zero"):
        consistency.pairs(jax.random.key(0), (4, 2), jnp.array([10.0, 1.0, 0.01]), score, samplers.heun())

"""Learnt posteriors: with the exact score, draws and densities are those of the exact posterior."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.sbi.config import Sampling
from experiments.sbi.coordinates import bounded
from experiments.sbi.posterior import Posterior, blocks
from jaxscore import noise, samplers
from tests.experiments.sbi import tiny

Y = np.linspace(-0.5, 0.5, 10).astype(np.float32)


def exact(theta, y):
    """log N(theta; y / 2, 0.05 I)."""
    return -0.5 * np.sum((theta - y / 2) ** 2 / 0.05 + np.log(2 * np.pi * 0.05), axis=1)


def boxed():
    """log p(theta | y) in the box [-1, 1]^2, where z given y is N(y, variance I); 0 and 1 are the prior."""
    edge = np.ones(2, np.float32)
    score = lambda variance, z, sigma, condition: (condition - z) / (variance + sigma[:, None] ** 2)
    moments = samplers.Moments(jnp.zeros(2), jnp.ones(2), jnp.eye(2))
    return jax.jit(Posterior(score, bounded(-edge, edge), moments, Sampling()).log_density)


def test_draws_are_those_of_the_exact_posterior():
    posterior, n = tiny.linear(), 4000
    keys = noise.row_keys(jax.random.key(0), n)
    theta = np.asarray(jax.jit(posterior.draw)(None, keys, np.tile(Y, (n, 1))))
    # Five standard errors; 30 levels of the solver are exact to less.
    np.testing.assert_allclose(theta.mean(axis=0), Y / 2, atol=5 * np.sqrt(0.05 / n))
    np.testing.assert_allclose(theta.std(axis=0), np.sqrt(0.05), rtol=5 / np.sqrt(2 * n) + 0.01)


def test_log_densities_are_those_of_the_exact_posterior():
    posterior, draws = tiny.linear(), np.random.default_rng(0)
    theta = (Y / 2 + np.sqrt(0.05) * draws.standard_normal((8, 10))).astype(np.float32)
    program = jax.jit(partial(posterior.log_density, tolerance=1e-5))
    found = program(None, jax.random.key(0), theta, np.tile(Y, (8, 1)))
    np.testing.assert_allclose(found, exact(theta, Y), atol=0.1)  # |E[z | y]| / 80 is 0.02


def test_densities_of_a_box_depend_on_their_row_alone():
    """One observation is near the edge of the box; alone and together the densities are the same."""
    program, keys = boxed(), noise.row_keys(jax.random.key(0), 4)
    theta = np.array([[0.0, 0.0], [0.9, -0.99], [1.1, 0.0], [-3.0, 2.0]], np.float32)
    found = program(1.0, keys, theta, np.zeros((4, 2), np.float32))
    np.testing.assert_allclose(found[:2], -np.log(4), atol=0.01)
    np.testing.assert_array_equal(found[2:], -np.inf)

    theta = np.array([[0.1, 0.2], [0.999, 0.0], [0.3, 0.2], [0.1, 0.1]], np.float32)
    y = np.array([[0.1, 0.2], [3.0, 0.0], [0.3, 0.1], [0.0, 0.1]], np.float32)
    together = program(0.01, keys, theta, y)
    same = np.zeros(4, int)
    for i in range(2):
        alone = program(0.01, keys[same + i], theta[same + i], y[same + i])
        np.testing.assert_allclose(together[i], alone[0], rtol=1e-4)


def test_each_draw_belongs_to_its_observation():
    """Draws for several observations are not mixed, and are those that an observation has alone."""
    posterior, n = tiny.linear(factor=0.01), 5
    ys = np.repeat(np.array([[0.0], [10.0]], np.float32), 10, axis=1)
    keys, rows = noise.row_keys(jax.random.key(1), 2 * n), np.repeat(ys, n, axis=0)
    theta = np.asarray(jax.jit(posterior.draw)(None, keys, rows))
    np.testing.assert_allclose(theta, rows / 2, atol=0.02)
    alone = np.asarray(jax.jit(posterior.draw)(None, keys[n:], rows[n:]))
    np.testing.assert_allclose(theta[n:], alone, atol=1e-6)


@pytest.mark.parametrize("n", [1, 4, 7, 9])
def test_blocks_are_the_whole(n):
    x = jnp.arange(2.0 * n).reshape(n, 2)
    shapes = []

    def function(rows, others):
        shapes.append(rows.shape)
        return rows + others

    np.testing.assert_array_equal(blocks(function, 4, x, x), 2 * x)
    assert len(set(shapes)) == 1

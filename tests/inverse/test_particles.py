"""The twisted sampler comes closer to the posterior as particles grow, and reports what it did."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import inverse, mixtures, noise, sharding
from jaxscore.inverse import operators
from tests.inverse import oracle

# One mode at each side; y says x is near 1.2 or, with half the weight, near -1.2.
PRIOR = mixtures.isotropic([0.4, 0.6], [[1.5, 0.0], [-1.5, 1.0]], 0.6)
SCORE = functools.partial(mixtures.score, PRIOR)
LEVELS = noise.levels(noise.karras(0.02, 10.0), 40)
SQUARE = operators.Operator(lambda x: x[:, :1] ** 2)


@functools.partial(jax.jit, static_argnames=("particles", "runs"))
def linear(key, particles, runs):
    """Particles of independent runs for the prior of the oracle."""
    one = lambda key: inverse.twisted(
        key,
        oracle.SCORE,
        oracle.OPERATOR,
        oracle.Y,
        noise=oracle.NOISE,
        sigmas=oracle.LEVELS,
        particles=particles,
    )
    return jax.vmap(one)(jax.random.split(key, runs))


def distance(particles, runs):
    """Error of the mean and of the covariance, in units of the standard deviations."""
    x = np.asarray(linear(jax.random.key(0), particles, runs).x, float).reshape(-1, 3)
    mean, covariance = (np.asarray(each, float) for each in mixtures.moments(oracle.POSTERIOR))
    scale = np.sqrt(np.diag(covariance))
    return np.abs((x.mean(axis=0) - mean) / scale).max(), np.abs(
        (np.cov(x.T) - covariance) / np.outer(scale, scale)
    ).max()


def test_particles_approach_the_posterior_as_their_number_grows():
    few, many = distance(1, 3000), distance(64, 400)
    # 400 runs of 64 particles are worth ten thousand draws, with errors of 0.01 and 0.02 by chance. 60 steps
    # of first order narrow the prior by 0.1, of which the posterior has a part.
    assert many[0] < 0.06, many
    assert many[1] < 0.2, many
    assert few[0] > 2 * many[0] or few[1] > 2 * many[1], (few, many)


def test_sample_size_and_resampling_are_reported():
    found = linear(jax.random.key(1), 32, 4)
    assert found.ess.shape == found.resampled.shape == (4, 60)
    assert float(found.ess.min()) >= 1.0
    assert float(found.ess.max()) <= 32.01
    # The last level is always resampled, the others where the sample size is below half of the particles.
    np.testing.assert_array_equal(found.resampled[:, :-1], found.ess[:, :-1] < 16)
    assert found.resampled[:, -1].all()


def test_an_operator_that_is_not_linear_has_its_posterior():
    """y = x_1^2 leaves both signs; their weights follow from Bayes' rule on a grid."""
    y, level = jnp.array([1.44]), 0.3
    run = lambda key: inverse.twisted(
        key, SCORE, SQUARE, y, noise=level, sigmas=LEVELS, particles=64, event=(2,), sigma_data=1.5
    )
    x = np.asarray(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(2), 100)).x).reshape(-1, 2)
    grid = np.stack(np.meshgrid(np.linspace(-5, 5, 401), np.linspace(-5, 5, 401), indexing="ij"), -1).reshape(
        -1, 2
    )
    log_p = np.asarray(mixtures.log_density(PRIOR, jnp.asarray(grid, jnp.float32), 0.0), float)
    log_p = log_p - 0.5 * ((1.44 - grid[:, 0] ** 2) / level) ** 2
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    # 100 runs: the weight of a side varies by 0.15 from run to run, and 4 standard errors are 0.06.
    np.testing.assert_allclose((x[:, 0] > 0).mean(), p[grid[:, 0] > 0].sum(), atol=0.06)
    np.testing.assert_allclose(np.abs(x[:, 0]).mean(), p @ np.abs(grid[:, 0]), atol=0.05)


def test_particles_split_over_devices_are_the_same():
    one = lambda mesh: inverse.twisted(
        jax.random.key(3),
        oracle.SCORE,
        oracle.OPERATOR,
        oracle.Y,
        noise=oracle.NOISE,
        sigmas=oracle.LEVELS[::6],
        particles=32,
        event=(3,),
        mesh=mesh,
    )
    mesh = sharding.mesh()
    split, alone = jax.jit(lambda: one(mesh))(), jax.jit(lambda: one(None))()
    assert len(split.x.sharding.device_set) == 8
    np.testing.assert_allclose(split.x, alone.x, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(split.ess, alone.ess, rtol=1e-2)


def test_what_cannot_be_done_is_refused():
    given = {"sigmas": LEVELS, "event": (3,)}
    call = functools.partial(inverse.twisted, jax.random.key(0), oracle.SCORE, oracle.OPERATOR, **given)
    with pytest.raises(ValueError, match="particles = 12 must be at least 1, and divisible by 8"):
        call(oracle.Y, noise=0.1, particles=12, mesh=sharding.mesh())
    with pytest.raises(ValueError, match="noise = 0: no particle"):
        call(oracle.Y, noise=0.0, particles=8)
    with pytest.raises(ValueError, match="y has shape"):
        call(jnp.ones(5), noise=0.1, particles=8)
    with pytest.raises(ValueError, match="give event="):
        inverse.twisted(jax.random.key(0), SCORE, SQUARE, jnp.ones(1), noise=0.1, sigmas=LEVELS, particles=8)

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import mixtures, noise, samplers
from tests.samplers import oracle

N = 10_000
SIGMA = 0.5
KEEP = lambda x, memory: memory


# The acceptance, once more in NumPy ----------------------------------------------------------------


def numpy_density_and_score(x, sigma):
    """log p_sigma and its gradient for the oracle's mixture, straight from the definitions."""
    weights = np.array([0.7, 0.3])
    means = np.array([[1.5, 1.0], [-1.5, -1.0]])
    v = 0.5**2 + sigma**2
    offsets = x[:, None] - means
    joint = weights * np.exp(-(offsets**2).sum(axis=2) / (2 * v)) / (2 * np.pi * v)
    p = joint.sum(axis=1)
    return np.log(p), -(joint[:, :, None] * offsets).sum(axis=1) / (v * p[:, None])


def numpy_acceptance(x, y, e, drift):
    """min(1, p(y) q(x | y) / (p(x) q(y | x))) with both normal densities written out."""
    log_p_x, _ = numpy_density_and_score(x, SIGMA)
    log_p_y, _ = numpy_density_and_score(y, SIGMA)
    log_q = lambda to, start: -((to - start - e * drift(start)) ** 2).sum(axis=1) / (4 * e)
    return np.exp(np.minimum(0, log_p_y + log_q(x, y) - log_p_x - log_q(y, x)))


@jax.jit
def one_step(key, x, e, factor):
    scaled = lambda x, sigma: factor * oracle.SCORE(x, sigma)
    sampler = samplers.metropolis(oracle.LOG_DENSITY, lambda sigma: e)
    return sampler.step(key, x, sampler.init(x), scaled, jnp.asarray(SIGMA), jnp.asarray(0.1))


@pytest.mark.parametrize("e", [0.05, 0.4, 2.0])
@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_the_acceptance_is_that_of_the_textbook(e, factor):
    n, key = 2000, jax.random.key(1)
    x = mixtures.draw(jax.random.key(0), oracle.MIXTURE, n, sigma=SIGMA)
    after, memory = one_step(key, x, e, factor)

    drift = lambda x: factor * numpy_density_and_score(x, SIGMA)[1]
    z = np.asarray(noise.normal(noise.fold_in(jax.random.clone(key), 0), x.shape), float)
    x = np.asarray(x, float)
    y = x + e * drift(x) + np.sqrt(2 * e) * z
    expected = numpy_acceptance(x, y, e, drift)
    np.testing.assert_allclose(memory.acceptance, expected, rtol=1e-3, atol=1e-5)
    # A row stays or takes the proposal, as often as it was to: 4 standard errors of n coins.
    moved = (np.asarray(after) != x.astype(np.float32)).any(axis=1)
    np.testing.assert_allclose(after, np.where(moved[:, None], y, x), rtol=1e-4, atol=1e-5)
    error = 4 * np.sqrt((expected * (1 - expected)).sum()) / n
    assert abs(moved.mean() - expected.mean()) <= error
    assert not moved[expected < 1e-6].any()


# The density ---------------------------------------------------------------------------------------


@jax.jit
def stay(x, sigma, right, wrong):
    """x after 40 steps at sigma, and the mean acceptance; the drift is right times the score + wrong."""
    drift = lambda x, sigma: right * oracle.SCORE(x, sigma) + wrong * (1 - x)
    # A step with which Langevin's own variance would be up to a third too large.
    adjusted = samplers.repeat(samplers.metropolis(oracle.LOG_DENSITY, lambda sigma: sigma**2), 40)
    sigmas = jnp.stack([sigma, sigma])
    x, memory = samplers.sample(jax.random.key(1), x, sigmas, drift, adjusted, collect=KEEP)
    return x, memory.acceptance.mean()


@pytest.mark.parametrize(
    ("right", "wrong"), [(1.0, 0.0), (0.0, 0.0), (0.0, 0.5)], ids=["the score", "none", "another's"]
)
def test_the_density_is_that_of_log_density_whatever_the_score(right, wrong):
    x = mixtures.draw(jax.random.key(0), oracle.MIXTURE, N, sigma=SIGMA)
    weights = mixtures.mode_weights(oracle.MIXTURE, x)
    after, acceptance = stay(x, SIGMA, right, wrong)
    assert 0.3 < acceptance < 0.98
    oracle.assert_moments(after, SIGMA)
    # Two draws of the same share: 4 standard errors, at most, since the second begins at the first.
    np.testing.assert_allclose(
        mixtures.mode_weights(oracle.MIXTURE, after), weights, atol=4 * np.sqrt(2 * 0.21 / N)
    )


def test_it_follows_the_levels_of_a_mixture():
    # Exact at each level; what is left is that 10 steps do not quite forget the level before.
    sampler = samplers.repeat(samplers.metropolis(oracle.LOG_DENSITY, lambda sigma: 0.5 * sigma**2), 10)
    oracle.assert_follows_the_levels(sampler, stays=True, bias=0.03)


def test_what_has_no_density_is_refused():
    # A density that is zero, or not a number, outside [-1, 1]: uniform inside.
    still = lambda x, sigma: jnp.zeros_like(x)
    for outside in (-np.inf, np.nan):
        log_density = lambda x, sigma, outside=outside: jnp.where(jnp.abs(x[:, 0]) < 1, 0.0, outside)
        sampler = samplers.repeat(samplers.metropolis(log_density, 0.1), 60)
        x, _, memory = oracle.run(sampler, jnp.zeros((N, 1)), jnp.ones(2), still)
        assert (np.abs(x) < 1).all()
        # The variance of a uniform, 1/3; its squares have variance 1/5 - 1/9.
        np.testing.assert_allclose(np.var(x), 1 / 3, atol=4 * np.sqrt((1 / 5 - 1 / 9) / N))
        assert np.isfinite(memory.acceptance).all()
        assert 0 < memory.acceptance.mean() < 1


# Without a density ---------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=0)
def ratio(points, x, y, sigma):
    return samplers.log_ratio_along_path(oracle.SCORE, x, y, sigma, points=points)


def test_the_path_integral_of_the_score_is_that_of_log_densities():
    """The integral is the difference of the log densities at the ends."""
    n = 200
    x = mixtures.draw(jax.random.key(0), oracle.MIXTURE, n, sigma=1.0)
    y = mixtures.draw(jax.random.key(1), oracle.MIXTURE, n, sigma=1.0)
    sigma = jnp.ones(n)
    exact = oracle.LOG_DENSITY(y, sigma) - oracle.LOG_DENSITY(x, sigma)
    errors = [float(np.abs(ratio(points, x, y, sigma) - exact).max()) for points in (1, 4, 16)]
    assert errors[0] > 10 * errors[1] > 100 * errors[2], errors
    assert errors[2] < 2e-3
    # On the scale of a step it is exact to rounding with few points.
    near = x + 0.1 * (y - x)
    exact = oracle.LOG_DENSITY(near, sigma) - oracle.LOG_DENSITY(x, sigma)
    np.testing.assert_allclose(ratio(4, x, near, sigma), exact, atol=1e-4)
    # There and back again is nothing.
    np.testing.assert_allclose(ratio(4, x, y, sigma), -ratio(4, y, x, sigma), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(7,), (7, 3), (7, 2, 2, 3)])
def test_one_point_is_exact_for_a_gaussian_of_any_shape(shape):
    x, y = noise.normal(jax.random.key(0), shape), 3 * noise.normal(jax.random.key(1), shape)
    sigma = jnp.linspace(0.1, 2.0, 7)
    expected = oracle.separable_log_density(y, sigma) - oracle.separable_log_density(x, sigma)
    found = samplers.log_ratio_along_path(oracle.separable, x, y, sigma, points=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_along_the_path_it_is_the_same_chain():
    # Where the integral is exact the same proposals are accepted: the samples are equal.
    x = 2 * noise.normal(jax.random.key(0), (50, 4))
    run = lambda sampler: oracle.run(sampler, x, jnp.full(11, SIGMA), oracle.separable)
    end, _, memory = run(samplers.metropolis(oracle.separable_log_density, 0.4))
    same, _, same_memory = run(samplers.metropolis_along_path(0.4, points=2))
    np.testing.assert_allclose(same, end, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(same_memory.acceptance, memory.acceptance, rtol=1e-3)
    assert 0.3 < memory.acceptance[-1].mean() < 0.95


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: samplers.metropolis(oracle.LOG_DENSITY, 0.0), "positive"),
        (lambda: samplers.metropolis_along_path(-1.0), "positive"),
        (lambda: samplers.metropolis_along_path(0.1, points=0), "points = 0"),
        (lambda: ratio(0, jnp.zeros((1, 2)), jnp.zeros((1, 2)), jnp.ones(1)), "points = 0"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import noise, samplers, score
from tests.grids import rest
from tests.samplers import oracle

N = 20_000
POINT = 2.0
X = jnp.array([[4.0, 1.0], [-2.0, 0.5], [0.3, -6.0]])


def point_mass(x, sigma):
    """The score at sigma of data that are all at one point."""
    return (POINT - x) / sigma[:, None] ** 2


@pytest.mark.parametrize("eta", [0.2, 1.0, rest(0.0), rest(0.6)])
def test_the_variance_of_every_level_is_hit_exactly(eta):
    sigmas = jnp.array([3.0, 2.0, 1.4, 1.3, 0.4, 0.1, 0.0])  # and the levels need not be geometric
    x = POINT + samplers.prior(jax.random.key(0), (N, 1), 3.0)
    last, path = samplers.sample(
        jax.random.key(1), x, sigmas, point_mass, samplers.consistent(eta), collect=lambda x, memory: x
    )
    for x, sigma in zip(path[:-1], sigmas[1:-1], strict=True):
        # 4 standard errors of a variance and of a mean.
        np.testing.assert_allclose(np.var(x), sigma**2, rtol=4 * np.sqrt(2 / N))
        np.testing.assert_allclose(np.mean(x), POINT, atol=4 * sigma / np.sqrt(N))
    np.testing.assert_allclose(last, POINT, atol=1e-5)


def test_it_keeps_to_its_levels_where_annealed_langevin_lags():
    # From level to level the same eta, once with all the noise of Langevin's step.
    eta, ratio = 0.2, 0.9
    sigmas = 3.0 * ratio ** jnp.arange(20.0)
    x = POINT + samplers.prior(jax.random.key(0), (N, 1), 3.0)
    run = lambda sampler: samplers.sample(jax.random.key(1), x, sigmas, point_mass, sampler)[0]
    langevin = np.var(run(samplers.langevin(lambda sigma: eta * sigma**2)))
    consistent = np.var(run(samplers.consistent(eta)))
    np.testing.assert_allclose(consistent, sigmas[-1] ** 2, rtol=4 * np.sqrt(2 / N))
    # In units of the level, v <- ((1 - eta)^2 v + 2 eta) / ratio^2, stationary at 2 eta / (ratio^2 - (1 -
    # eta)^2); Langevin's last step is at the level before the last.
    excess = 2 * eta / (ratio**2 - (1 - eta) ** 2)
    np.testing.assert_allclose(langevin, excess * sigmas[-1] ** 2, rtol=0.05)
    assert excess > 2


def test_the_noise_is_that_of_the_paper():
    # beta sigma_next with beta = sqrt(1 - (1 - eta)^2 / gamma^2), gamma = sigma_next / sigma.
    eta, sigma, gamma = 0.3, 2.0, 0.8
    still = lambda x, sigma: jnp.zeros_like(x)
    x, _ = samplers.sample(
        jax.random.key(0),
        jnp.zeros((N, 1)),
        jnp.array([sigma, gamma * sigma]),
        still,
        samplers.consistent(eta),
    )
    beta = np.sqrt(1 - (1 - eta) ** 2 / gamma**2)
    np.testing.assert_allclose(np.var(x), (beta * gamma * sigma) ** 2, rtol=4 * np.sqrt(2 / N))


@pytest.mark.parametrize("eta", [0.5, rest(0.25), rest(1.0)])
def test_data_with_a_width_lose_what_the_docstring_says(eta):
    s0, sigma, sigma_next = 0.8, 1.5, 1.2
    gaussian = lambda x, sigma: -x / (s0**2 + sigma[:, None] ** 2)
    x = samplers.prior(jax.random.key(0), (N, 1), float(np.hypot(s0, sigma)))
    x, _ = samplers.sample(
        jax.random.key(1), x, jnp.array([sigma, sigma_next]), gaussian, samplers.consistent(eta)
    )
    posterior = s0**2 * sigma**2 / (s0**2 + sigma**2)  # Var[x0 | x]
    np.testing.assert_allclose(np.var(x), s0**2 + sigma_next**2 - eta**2 * posterior, rtol=4 * np.sqrt(2 / N))


@pytest.mark.parametrize("eta", [0.19, rest(0.0)])
def test_a_step_too_small_is_eulers(eta):
    sigmas = jnp.array([2.0, 1.6, 1.0, 0.1])  # the smallest step leaves 0.8
    run = lambda sampler: samplers.sample(jax.random.key(0), X, sigmas, oracle.SCORE, sampler)[0]
    np.testing.assert_allclose(run(samplers.consistent(eta)), run(samplers.euler()), rtol=1e-5)


def test_with_the_right_eta_it_is_the_ancestral_step():
    sigmas = jnp.array([2.0, 1.2])
    run = lambda sampler: samplers.sample(jax.random.key(0), X, sigmas, oracle.SCORE, sampler)[0]
    np.testing.assert_allclose(run(samplers.consistent(1 - 0.6**2)), run(samplers.ancestral()), rtol=1e-5)


@pytest.mark.parametrize("eta", [0.3, rest(0.0), rest(1.0)])
def test_the_step_to_zero_is_tweedies_denoising(eta):
    end, _ = samplers.sample(
        jax.random.key(0), X, jnp.array([0.3, 0.0]), oracle.SCORE, samplers.consistent(eta)
    )
    np.testing.assert_allclose(end, score.denoise(oracle.SCORE, X, jnp.full(3, 0.3)), rtol=1e-5)


def test_it_follows_the_levels_of_a_mixture():
    # The loss of the docstring, added up: 4 % of the variance at eta = 0.15 on these levels.
    oracle.assert_follows_the_levels(samplers.consistent(0.15), stays=False, bias=0.05)


def test_rows_are_their_own_in_any_shape():
    oracle.assert_rows_are_their_own(samplers.consistent(0.9))


def test_every_step_has_fresh_noise():
    _, path = samplers.sample(
        jax.random.key(0),
        jnp.zeros((20, 3)),
        noise.levels(noise.geometric(0.1, 6.0), 8)[:-1],
        lambda x, sigma: jnp.zeros_like(x),
        samplers.consistent(1.0),
        collect=lambda x, memory: x,
    )
    draws = np.diff(np.asarray(path), axis=0, prepend=0)
    assert len(np.unique(draws)) == draws.size


@pytest.mark.parametrize("eta", [-0.1, 1.1])
def test_eta_is_a_share(eta):
    with pytest.raises(ValueError, match="between 0 and 1"):
        samplers.consistent(eta)

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import mixtures, noise, samplers, score

ONE_LEVEL = jnp.array([1.0, 1.0])


def test_the_update_is_drift_plus_noise():
    # With no score the noise is left: variance 2 e. With no noise to speak of, the drift: x + e s.
    n, e = 20_000, 0.3
    still = lambda x, sigma: jnp.zeros_like(x)
    x, _ = samplers.sample(jax.random.key(0), jnp.zeros((n, 1)), ONE_LEVEL, still, samplers.langevin(e))
    np.testing.assert_allclose(np.var(x), 2 * e, rtol=4 * np.sqrt(2 / n))
    constant = lambda x, sigma: jnp.full_like(x, 1e4)
    x, _ = samplers.sample(jax.random.key(0), jnp.ones((4, 1)), ONE_LEVEL, constant, samplers.langevin(e))
    np.testing.assert_allclose(x, 1 + e * 1e4, rtol=2e-3)


@pytest.mark.parametrize(("v", "e"), [(1.0, 0.5), (1.0, 1.0), (0.25, 0.1)])
def test_a_gaussian_is_stationary_up_to_the_known_bias(v, e):
    """x <- (1 - e/v) x + sqrt(2 e) z has variance v / (1 - e / (2 v)): too wide by e / (2 v)."""
    n, mean = 20_000, 3.0
    gaussian = lambda x, sigma: -(x - mean) / v
    sampler = samplers.repeat(samplers.langevin(e), 60)  # (1 - e/v)^120 of the start is left: nothing
    run = jax.jit(lambda key, x: samplers.sample(key, x, ONE_LEVEL, gaussian, sampler)[0])
    x = np.asarray(run(jax.random.key(0), jnp.zeros((n, 1))), float)
    expected = v / (1 - e / (2 * v))
    np.testing.assert_allclose(x.var(), expected, rtol=4 * np.sqrt(2 / n))
    np.testing.assert_allclose(x.mean(), mean, atol=4 * np.sqrt(expected / n))


def test_it_stays_at_sigma_and_takes_the_step_of_sigma():
    told = []

    def spy(x, sigma):
        told.append(sigma)
        return jnp.zeros_like(x)

    sampler, n = samplers.langevin(lambda sigma: 0.1 * sigma**2), 10_000
    x, _ = sampler.step(jax.random.key(0), jnp.zeros((n, 1)), (), spy, jnp.asarray(3.0), jnp.asarray(1.0))
    np.testing.assert_array_equal(told[0], 3.0)
    np.testing.assert_allclose(np.var(x), 2 * 0.1 * 9, rtol=4 * np.sqrt(2 / n))


def test_annealed_is_the_step_size_of_ncsn():
    # 2e-5 at the last level, 0.01, and (1 / 0.01)^2 as much at the first.
    e = samplers.annealed(2e-5, 0.01)
    np.testing.assert_allclose(e(jnp.array([0.01, 0.1, 1.0])), [2e-5, 2e-3, 0.2], rtol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: samplers.langevin(0.0),
        lambda: samplers.langevin(-1.0),
        lambda: samplers.annealed(0.0, 0.1),
        lambda: samplers.annealed(0.1, 0.0),
    ],
)
def test_step_sizes_must_be_positive(make):
    with pytest.raises(ValueError, match="positive"):
        make()


def test_annealed_langevin_finds_both_modes_in_proportion():
    """The lecture's example: Langevin at one small sigma never crosses between these modes."""
    n, mixture = 4000, mixtures.two_modes()
    exact = functools.partial(mixtures.score, mixture)
    sigmas = noise.levels(noise.geometric(0.1, 15.0), 20)
    body = samplers.repeat(samplers.langevin(samplers.annealed(1e-3, 0.1)), 60)

    @jax.jit
    def both(key, x):
        plain, _ = samplers.sample(key, x, sigmas, exact, samplers.chain(body))
        end = samplers.chain(body, samplers.denoise_last())
        return plain, samplers.sample(key, x, sigmas, exact, end)[0]

    plain, denoised = both(jax.random.key(1), samplers.prior(jax.random.key(0), (n, 2), sigmas[0]))
    np.testing.assert_allclose(denoised, score.denoise(exact, plain, jnp.full(n, sigmas[-2])), atol=1e-4)

    # Mode weights: 4 standard errors, sqrt(.8 .2 / n) = 0.0063, and 0.02 for levels of finite number.
    np.testing.assert_allclose(mixtures.mode_weights(mixture, plain), [0.8, 0.2], atol=0.045)
    # Within a mode: noise 0.1 on std 0.5. The step, e / (2 v) = 0.2 %, adds next to nothing.
    near = np.asarray(plain)[np.asarray(plain).sum(axis=1) > 0]
    assert len(near) > 2000
    np.testing.assert_allclose(near.std(axis=0), np.sqrt(0.25 + 0.01), rtol=4 / np.sqrt(2 * len(near)) + 0.02)
    np.testing.assert_allclose(near.mean(axis=0), mixture.means[0], atol=4 * 0.51 / np.sqrt(len(near)))
    # Denoising takes the noise out: E[x0 | x] has variance v0^2 / (v0 + sigma^2).
    near = np.asarray(denoised)[np.asarray(denoised).sum(axis=1) > 0]
    np.testing.assert_allclose(near.std(axis=0), 0.25 / np.sqrt(0.26), rtol=4 / np.sqrt(2 * len(near)) + 0.02)

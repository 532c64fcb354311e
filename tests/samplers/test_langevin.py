import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import mixtures, noise, samplers, score
from tests.draws import assert_gaussian, assert_mean
from tests.grids import rest
from tests.samplers import oracle

ONE_LEVEL = jnp.array([1.0, 1.0])


def still(x, sigma):
    """No score."""
    return jnp.zeros_like(x)


# The update ---------------------------------------------------------------------------------------


def test_the_update_is_drift_plus_noise():
    # With no score the noise is left: variance 2 e. With no noise to speak of, the drift: x + e s.
    e = 0.3
    assert_gaussian(oracle.run(samplers.langevin(e), jnp.zeros((20_000, 1)), ONE_LEVEL, still).x, 0, 2 * e)
    constant = lambda x, sigma: jnp.full_like(x, 1e4)
    x = oracle.run(samplers.langevin(e), jnp.ones((4, 1)), ONE_LEVEL, constant).x
    np.testing.assert_allclose(x, 1 + e * 1e4, rtol=2e-3)


@jax.jit
def settled_on_a_gaussian(v, e):
    gaussian = lambda x, sigma: -(x - 3.0) / v
    # (1 - e/v)^60 of the start is left: nothing.
    sampler = samplers.repeat(samplers.langevin(lambda sigma: e), 60)
    return samplers.sample(jax.random.key(0), jnp.zeros((20_000, 1)), ONE_LEVEL, gaussian, sampler)[0]


@pytest.mark.parametrize(("v", "e"), [(1.0, 0.125), (1.0, 0.25), (1.0, 0.5), (1.0, 1.0), (0.25, 0.1)])
def test_a_gaussian_is_stationary_up_to_the_known_bias(v, e):
    """x <- (1 - e/v) x + sqrt(2 e) z has variance v / (1 - e / (2 v)): too wide by e / (2 v)."""
    assert_gaussian(settled_on_a_gaussian(v, e), 3, v / (1 - e / (2 * v)))


def test_it_stays_at_sigma_and_takes_the_step_of_sigma():
    told = []

    def spy(x, sigma):
        told.append(sigma)
        return jnp.zeros_like(x)

    sampler = samplers.langevin(lambda sigma: 0.1 * sigma**2)
    x, _ = oracle.step(sampler, jax.random.key(0), jnp.zeros((10_000, 1)), 3.0, spy, 1.0)
    np.testing.assert_array_equal(told[0], 3.0)
    assert_gaussian(x, 0, 2 * 0.1 * 9)


def test_annealed_is_the_step_size_of_ncsn():
    # 2e-5 at the last level, 0.01, and (1 / 0.01)^2 as much at the first.
    e = samplers.annealed(2e-5, 0.01)
    np.testing.assert_allclose(e(jnp.array([0.01, 0.1, 1.0])), [2e-5, 2e-3, 0.2], rtol=1e-5)


# Signal to noise ------------------------------------------------------------------------------------


def length(a):
    return np.sqrt((np.asarray(a, float).reshape(len(a), -1) ** 2).sum(axis=1))


RATIOS = {
    "of each": (samplers.langevin_signal_to_noise, lambda lengths: lengths),
    "of the means": (samplers.langevin_signal_to_noise_coupled, np.mean),
}


@pytest.mark.parametrize("name", RATIOS)
def test_the_step_is_that_of_the_paper(name):
    """Song et al. 2021, algorithm 4: e = 2 (r |z| / |g|)^2 and x + e g + sqrt(2 e) z."""
    (make, of), r, sigma, key = RATIOS[name], 0.16, 2.0, jax.random.key(1)
    x = 3 * noise.normal(jax.random.key(0), (6, 4, 5))
    after, memory = oracle.step(make(r), key, x, sigma, oracle.separable)

    z = np.asarray(noise.normal(jax.random.clone(key), x.shape), float)
    g = np.asarray(oracle.separable(x, jnp.full(6, sigma)), float)
    e = np.broadcast_to(2 * (r * of(length(z)) / of(length(g))) ** 2, 6)[:, None, None]
    drift, added = e * g, np.sqrt(2 * e) * z
    np.testing.assert_allclose(after, np.asarray(x, float) + drift + added, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(memory.signal_to_noise, length(drift) / length(added), rtol=1e-4)
    np.testing.assert_allclose(of(length(drift)) / of(length(added)), r, rtol=1e-5)


@pytest.mark.parametrize(
    "make", [samplers.langevin_signal_to_noise, samplers.langevin_signal_to_noise_coupled]
)
def test_without_a_score_the_step_is_the_limit(make):
    for limit in (1.0, 0.25):
        x, memory = oracle.step(
            make(0.16, limit=limit), jax.random.key(0), jnp.zeros((20_000, 1)), 3.0, still
        )
        assert_gaussian(x, 0, 2 * limit * 3.0**2)
        np.testing.assert_array_equal(memory.signal_to_noise, 0)


def settled(sampler, d, steps=60, n=4000):
    """|x|^2 of n examples of N(0, I) in d dimensions after many steps."""
    x = noise.normal(jax.random.key(0), (n, d))
    return length(oracle.run(samplers.repeat(sampler, steps), x, ONE_LEVEL, lambda x, sigma: -x).x) ** 2


def test_a_step_of_its_own_is_too_wide_by_4_over_the_dimension():
    """On N(0, I), E|x_next|^2 = E|x|^2 says E[1 / |x|^2] = 1 / ((D + 2) (1 + r^2)), for any r.

    With e = 2 r^2 |z|^2 / |x|^2 the terms of |(1 - e) x + sqrt(2 e) z|^2 have the means E|x|^2, -4 r^2 D,
    4 r^4 D (D + 2) E[1 / |x|^2] and 4 r^2 D (D + 2) E[1 / |x|^2]. For a true normal it is 1 / (D - 2).
    """
    d, r = 16, 0.2
    inverse = 1 / settled(samplers.langevin_signal_to_noise(r, limit=100.0), d)
    assert_mean(inverse, 1 / ((d + 2) * (1 + r**2)))
    # And 1 / (D - 2), the truth, is far away.
    assert inverse.mean() < 0.8 / (d - 2)
    # One step size for all has the bias of the finite step and no more: e = 2 r^2, 1 / (1 - r^2).
    squares = settled(samplers.langevin_signal_to_noise_coupled(r), d)
    np.testing.assert_allclose(squares.mean(), d / (1 - r**2), rtol=4 * np.sqrt(2 / (d * 4000)) + 0.003)


def test_means_over_the_batch_couple_the_samples_and_say_so():
    x = 6 * noise.normal(jax.random.key(0), (16, 8))
    other = x.at[5:].multiply(3.0)
    key = jax.random.key(1)
    coupled = samplers.langevin_signal_to_noise_coupled(0.16)
    run = lambda x: oracle.few_steps(coupled, key, x)[0][:5]
    assert np.abs(run(x) - run(other)).max() > 0.01
    assert "COUPLE" in samplers.langevin_signal_to_noise_coupled.__doc__
    # How many devices share the batch makes no difference even so.
    oracle.assert_close(oracle.on_eight_devices(coupled, key, x), oracle.few_steps(coupled, key, x))


# Bad arguments, and steps that diverge ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (samplers.langevin, (0.0,)),
        (samplers.langevin, (-1.0,)),
        (samplers.langevin_stability, (0.0, 1.0)),
        (samplers.langevin_signal_to_noise, (0.0,)),
        (functools.partial(samplers.langevin_signal_to_noise, limit=0.0), (0.1,)),
        (samplers.langevin_signal_to_noise_coupled, (-0.1,)),
        (samplers.annealed, (0.0, 0.1)),
        (samplers.annealed, (0.1, 0.0)),
    ],
)
def test_step_sizes_must_be_positive(make, arguments):
    with pytest.raises(ValueError, match="positive"):
        make(*arguments)


@pytest.mark.parametrize("factor", [2.0, 2.1, 50.0])
def test_an_annealed_step_that_diverges_is_refused_in_one_line(factor):
    message = r"^epsilon = .* sigma_min = 0\.125.* epsilon < .* = 0\.03125[^\n]*$"
    with pytest.raises(ValueError, match=message):
        samplers.annealed(factor * 0.125**2, 0.125)
    samplers.annealed(1.99 * 0.125**2, 0.125)


def test_stability_is_what_a_step_leaves():
    sigma = jnp.array([0.1, 1.0, 5.0])
    step = samplers.annealed(0.2 * 0.1**2, 0.1)
    np.testing.assert_allclose(samplers.langevin_stability(step, sigma), 0.8, rtol=1e-5)
    np.testing.assert_allclose(samplers.langevin_stability(0.5, sigma), [49, 0.5, 0.98], rtol=1e-5)
    assert float(samplers.langevin_stability(2.0, 1.0)) == 1


def test_a_step_diverges_where_stability_says_so():
    # The noise of a level by itself, from 1000 sigma away, 10 steps: |1 - e / sigma^2|^10 of it is left.
    sigma, sigmas = 0.5, jnp.full(2, 0.5)
    point = lambda x, sigma: -x / sigma[:, None] ** 2

    @jax.jit
    def mean(e):
        dynamics = samplers.repeat(samplers.langevin(lambda sigma: e), 10)
        x = jnp.full((2000, 1), 500.0)
        return samplers.sample(jax.random.key(0), x, sigmas, point, dynamics)[0].mean()

    for factor in (0.3, 1.9, 2.1):
        e = factor * sigma**2
        left = float(samplers.langevin_stability(e, sigma)) ** 10
        assert (left < 1) == (factor < 2)
        # The noise: std at most sigma / sqrt(1 - 0.9^2) where it converges, 3.3 sigma at 2.1; 4 of its
        # standard errors are 0.15.
        np.testing.assert_allclose(abs(float(mean(e))), left * 500, rtol=1e-4, atol=0.15)


# Mixtures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [samplers.langevin(lambda sigma: 0.06 * sigma**2), samplers.langevin_signal_to_noise_coupled(0.17)],
    ids=["langevin", "signal to noise, coupled"],
)
def test_it_follows_the_levels_of_a_mixture(step):
    # The bias of the step, e / (2 v) = 3 % of the variance, and 3 % for T steps that do not quite forget
    # the level before.
    oracle.assert_follows_the_levels(samplers.repeat(step, 15), stays=True, bias=0.06)


def test_corrector_then_predictor_is_the_better_order():
    """The two orders are compared on a mixture."""
    # Few levels; components of std 0.2. After the predictor the corrector's noise is that of the level
    # before, and stays.
    mixture = mixtures.isotropic([0.7, 0.3], [[1.5, 1.0], [-1.5, -1.0]], 0.2)
    exact = functools.partial(mixtures.score, mixture)
    sigmas = noise.levels(noise.karras(0.02, 8.0), 18)
    corrector, n = samplers.langevin_signal_to_noise_coupled(0.3), 10_000
    start = mixtures.draw(jax.random.key(0), mixture, n, sigma=sigmas[0])
    orders = {
        "corrector first": samplers.chain(corrector, samplers.heun()),
        "predictor first": samplers.chain(samplers.heun(), corrector),
    }
    ends = {name: np.asarray(oracle.run(each, start, sigmas, exact).x) for name, each in orders.items()}
    std = {name: x[x.sum(axis=1) > 0].std(axis=0).mean() for name, x in ends.items()}
    # 4 standard errors of a standard deviation of 14,000 numbers, 2.4 %, and 3 % for the steps' size.
    np.testing.assert_allclose(std["corrector first"], 0.2, rtol=0.054)
    assert std["predictor first"] > 0.23


def test_a_step_of_its_own_in_many_dimensions():
    """Two modes of 64 numbers, as images of 8 x 8: predictor and corrector find both, as wide as they are."""
    n, width, sigmas = 1000, 0.5, noise.levels(noise.geometric(0.1, 20.0), 40)

    def exact(x, sigma):
        # +m with weight 0.7 and -m with 0.3, m = (1, 1, ...): the mean of x0 given x, by Tweedie.
        v = (width**2 + sigma**2)[:, None, None]
        bias = jnp.log(0.7 / 0.3) / 2
        which = jnp.tanh(x.sum(axis=(1, 2), keepdims=True) / v + bias)
        return (which - x) / v

    corrector = samplers.langevin_signal_to_noise(0.16, limit=4.0)
    sampler = samplers.chain(corrector, samplers.reverse_diffusion())
    x = samplers.prior(jax.random.key(0), (n, 8, 8), jnp.hypot(sigmas[0], width))
    x, _, (memory, _) = oracle.run(sampler, x, sigmas, exact)
    # 4 standard errors, sqrt(.7 .3 / n) = 0.0145, and 0.03 for a first-order predictor.
    side = x.mean(axis=(1, 2)) > 0
    assert abs(float(side.mean()) - 0.7) < 0.088
    # 4 / D = 6 % of the variance and r^2 = 3 % would be the corrector's alone: half of that in std.
    np.testing.assert_allclose(np.std(np.asarray(x)[side]), width, rtol=0.05)
    np.testing.assert_allclose(np.mean(np.asarray(x)[side]), 1.0, atol=0.02)
    np.testing.assert_allclose(memory.signal_to_noise[-1], 0.16, rtol=1e-4)


# The last step ----------------------------------------------------------------------------------------

FAMILY = {
    "langevin": samplers.langevin(lambda sigma: 0.1 * sigma**2),
    "signal to noise": samplers.langevin_signal_to_noise(0.16),
    "metropolis": samplers.metropolis(oracle.LOG_DENSITY, lambda sigma: 0.5 * sigma**2),
}


ENDS = [(name, samplers.denoise_last()) for name in FAMILY]
ENDS += [("langevin", samplers.heun()), rest("langevin", samplers.ancestral())]
ENDS += [rest("langevin", samplers.reverse_diffusion())]


@pytest.mark.parametrize(("name", "end"), ENDS)
def test_the_last_step_is_at_the_last_level_and_is_denoised(name, end):
    # To sigma_next = 0 Langevin still works at sigma > 0. What comes after it, a predictor as well as
    # the denoising that one leaves out to have it off, takes the noise away and adds none.
    x = mixtures.draw(jax.random.key(0), oracle.MIXTURE, 30, sigma=0.3)
    chained = samplers.chain(FAMILY[name], oracle.REMEMBER, end)
    denoised, _, (_, noisy, _) = oracle.run(chained, x, [0.3, 0.0])
    assert np.abs(noisy[0] - x).max() > 0.05
    expected = score.denoise(oracle.SCORE, noisy[0], jnp.full(30, 0.3))
    np.testing.assert_allclose(denoised, expected, rtol=1e-4, atol=1e-5)

import functools
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import mixtures, noise, samplers, sharding
from jaxscore.adversarial import denoising
from tests.draws import assert_gaussian, assert_mean
from tests.grids import rest
from tests.samplers import oracle

N = 100_000
full = lambda value, n=N: jnp.full(n, value)
make_pair = jax.jit(denoising.pair)
draw_posterior = jax.jit(denoising.posterior)


# Levels -------------------------------------------------------------------------------------------


def betas(sigmas):
    """beta_1, ..., beta_T of a grid sigma_T > ... > sigma_0, by abar = 1 / (1 + sigma^2)."""
    abar = 1 / (1 + np.asarray(sigmas, float)[::-1] ** 2)
    return 1 - abar[1:] / abar[:-1]


def test_four_steps_have_the_published_betas():
    np.testing.assert_allclose(betas(denoising.levels(4)), [0.478, 0.849, 0.956, 0.987], atol=5e-4)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_levels_are_those_of_the_discretised_process(steps):
    # From the definition, in float64: the variance-preserving process's log mean, then products of 1 - beta.
    t = 1e-3 + (1 - 1e-3) * np.arange(steps + 1) / steps
    abar = np.exp(2 * (-(t**2) * (20 - 0.1) / 4 - 0.1 * t / 2))
    abar_from_zero = np.concatenate([[1.0], np.cumprod(abar[1:] / abar[:-1])])
    sigmas = denoising.levels(steps)
    assert sigmas[-1] == 0
    assert (np.diff(sigmas) < 0).all()
    np.testing.assert_allclose(sigmas[::-1], np.sqrt(1 / abar_from_zero - 1), rtol=1e-5)


def test_levels_follow_their_constants_for_one_step_or_more():
    # beta constant: B(t) = beta t, so sigma_T^2 = exp(beta (1 - t_min)) - 1.
    sigmas = denoising.levels(2, beta_min=3.0, beta_max=3.0, t_min=0.1)
    np.testing.assert_allclose(sigmas, np.sqrt(np.expm1([2.7, 1.35, 0.0])), rtol=1e-5)
    with pytest.raises(ValueError, match="steps = 0 must be at least 1"):
        denoising.levels(0)


@pytest.mark.parametrize("sigma", [0.0, 0.5, 3.0])
def test_the_shrunk_x_is_the_best_guess_of_gaussian_data(sigma):
    x0, n = np.random.default_rng(0).standard_normal((2, N, 1)).astype(np.float32)
    x = x0 + sigma * n
    guess = denoising.shrunk(jnp.asarray(x), full(sigma))
    # What it leaves has nothing to do with x.
    assert_mean((x0 - guess) * x, 0)


# Pairs and the posterior --------------------------------------------------------------------------


def test_a_pair_has_the_moments_of_the_forward_process():
    sigma, sigma_next = 2.0, 0.7
    x0 = 1.5
    pair = make_pair(jax.random.key(0), full(x0)[:, None], full(sigma), full(sigma_next))
    noises = np.concatenate([pair.x, pair.x_next], axis=1).astype(float) - x0
    assert_mean(noises, 0)
    # x holds all the noise of x_next, so their covariance is x_next's variance.
    expected = [[sigma**2, sigma_next**2], [sigma_next**2, sigma_next**2]]
    assert_mean(noises[:, :, None] * noises[:, None, :], expected)
    np.testing.assert_array_equal([pair.sigma, pair.sigma_next], [full(sigma), full(sigma_next)])


def test_the_lower_x_of_the_last_pair_is_x0():
    x0 = jnp.arange(4.0)[:, None]
    pair = make_pair(jax.random.key(0), x0, full(0.7, 4), full(0.0, 4))
    np.testing.assert_array_equal(pair.x_next, x0)


def test_examples_of_a_pair_have_their_own_levels_and_noise():
    """The coordinates of an example have noise of their own, too."""
    x0, sigma, sigma_next = jnp.zeros((2, 300, 100)), jnp.array([1.0, 5.0]), jnp.array([0.5, 3.0])
    pair = make_pair(jax.random.key(0), x0, sigma, sigma_next)
    # 30,000 coordinates: 4 standard errors of a standard deviation.
    np.testing.assert_allclose(np.std(pair.x, axis=(1, 2)), sigma, rtol=4 / math.sqrt(60_000))
    np.testing.assert_allclose(np.std(pair.x_next, axis=(1, 2)), sigma_next, rtol=4 / math.sqrt(60_000))


def number_of(sigma, sigmas):
    return np.argmax(np.asarray(sigma)[:, None] == np.asarray(sigmas), axis=1)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_every_step_is_drawn_equally_often_and_has_both_its_ends(steps):
    sigmas = denoising.levels(steps)
    u = noise.stratified(jax.random.key(0), 120)
    sigma, sigma_next = denoising.step(u, sigmas)
    number = number_of(sigma, sigmas)
    np.testing.assert_array_equal(number, np.floor(np.asarray(u) * steps))
    np.testing.assert_array_equal(sigmas[number + 1], sigma_next)
    np.testing.assert_array_equal(np.bincount(number), [120 // steps] * steps)
    # Neighbours are of one step, so that only the groups where two steps meet have examples of both.
    assert np.count_nonzero(np.diff(number)) <= steps


def test_the_ends_of_the_unit_interval_are_first_and_last_step():
    sigmas = denoising.levels(4)
    ends = denoising.step(jnp.array([0.0, 1.0]), sigmas)
    np.testing.assert_array_equal(ends, sigmas[jnp.array([[0, 3], [1, 4]])])


def test_steps_are_drawn_in_proportion_to_their_weights():
    sigmas, weights = denoising.levels(3), jnp.array([1.0, 2.0, 5.0])
    sigma, _ = denoising.step(noise.stratified(jax.random.key(0), 800), sigmas, weights)
    np.testing.assert_allclose(np.bincount(number_of(sigma, sigmas)), [100, 200, 500], atol=1)


def test_the_share_of_data_is_their_size_in_x_next():
    """x_next is meant in the variance-preserving scale."""
    sigmas = denoising.levels(4)
    sizes = denoising.variance_preserving(jnp.ones((4, 1)), sigmas[1:])[:, 0]
    np.testing.assert_allclose(denoising.share_of_data(sigmas), sizes, rtol=1e-6)
    np.testing.assert_allclose(sizes, [0.06, 0.28, 0.72, 1.0], atol=0.006)


def bayes(x, x0, sigma, sigma_next):
    """Mean and variance of x_next given both its neighbours: precisions add."""
    from_data, from_above = 1 / sigma_next**2, 1 / (sigma**2 - sigma_next**2)
    variance = 1 / (from_data + from_above)
    return variance * (from_data * x0 + from_above * x), variance


def test_the_posterior_is_bayes_rule():
    x, x0, sigma, sigma_next = 5.0, 2.0, 1.5, 0.9
    draws = draw_posterior(
        jax.random.key(0), full(x)[:, None], full(x0)[:, None], full(sigma), full(sigma_next)
    )
    assert_gaussian(draws, *bayes(x, x0, sigma, sigma_next))


def test_a_posterior_at_sigma_next_0_is_x0():
    """Every example has its own sigmas."""
    x, x0 = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    sigma, sigma_next = np.float32([0.5, 150.0, 150.0]), np.float32([0.0, 0.0, 17.0])
    keys = noise.row_keys(jax.random.key(1), 3)
    draw = lambda rows: draw_posterior(keys[rows], x[rows], x0[rows], sigma[rows], sigma_next[rows])
    draws = draw(np.array([0, 1, 2]))
    np.testing.assert_array_equal(draws[:2], x0[:2])
    assert np.abs(draws[2] - x0[2]).max() > 1
    np.testing.assert_allclose(draw(np.array([2, 2, 0]))[1:], draws[np.array([2, 0])], rtol=1e-6)


# The game on Gaussians ----------------------------------------------------------------------------
#
# Data N(MEAN, S0^2); one step from SIGMA to SIGMA_NEXT; a generator x0 = a x + b + c z. Then x_next given x
# is Gaussian, in the data and from the generator, and everything is known.

MEAN, S0, SIGMA, SIGMA_NEXT = 0.7, 0.8, 1.5, 0.6
V = S0**2 + SIGMA**2
RATIO = (SIGMA_NEXT / SIGMA) ** 2
TAU = SIGMA_NEXT * math.sqrt(SIGMA**2 - SIGMA_NEXT**2) / SIGMA


class Linear(NamedTuple):
    """The parameters of the generator x0 = slope x + offset + spread z."""

    slope: float | jax.Array
    offset: float | jax.Array
    spread: float | jax.Array


MATCHING = Linear(S0**2 / V, MEAN * SIGMA**2 / V, S0 * SIGMA / math.sqrt(V))  # x0 | x, by Bayes' rule
WRONG = Linear(MATCHING.slope + 0.15, MATCHING.offset - 0.3, 0.6 * MATCHING.spread)


def linear_generator(theta, x, sigma, z):
    return theta.slope * x + theta.offset + theta.spread * z


def conditional(theta):
    """x_next | x ~ N(slope x + offset, variance) from the generator: its x0 through the posterior."""
    slope = (1 - RATIO) * theta.slope + RATIO
    return slope, (1 - RATIO) * theta.offset, (1 - RATIO) ** 2 * theta.spread**2 + TAU**2


def data_conditional():
    """The same from the data, by another way: regression on x, of covariance S0^2 + SIGMA_NEXT^2."""
    both = S0**2 + SIGMA_NEXT**2
    return both / V, MEAN - both / V * MEAN, both - both**2 / V


def log_density(line, x_next, x):
    slope, offset, variance = line
    return -((x_next - slope * x - offset) ** 2) / (2 * variance) - math.log(2 * math.pi * variance) / 2


def features(x_next, x):
    """The six monomials up to degree two."""
    x_next, x = x_next[:, 0], x[:, 0]
    return jnp.stack([jnp.ones_like(x), x, x_next, x**2, x * x_next, x_next**2], axis=1)


def quadratic(phi, x_next, x, sigma):
    """A discriminator that holds every ratio of two Gaussians' densities."""
    return features(x_next, x) @ phi


def coefficients(line):
    """log_density(line, ...) as a combination of the six features."""
    slope, offset, variance = line
    square = np.array([offset**2, 2 * slope * offset, -2 * offset, slope**2, -2 * slope, 1.0])
    result = -square / (2 * variance)
    result[0] -= math.log(2 * math.pi * variance) / 2
    return result


def best(theta):
    """log q(x_next | x) - log p_theta(x_next | x): the best discriminator against the generator theta."""
    return jnp.asarray(coefficients(data_conditional()) - coefficients(conditional(theta)), jnp.float32)


def quadrature(theta):
    """KL(p_theta || q) and JSD of the conditionals, averaged over x ~ N(MEAN, V), by sums over a grid."""
    x = np.linspace(-6, 6, 161)[:, None] * math.sqrt(V) + MEAN
    weight = np.exp(log_density((0.0, MEAN, V), x, 0.0))
    x_next = np.linspace(-14, 14, 1401)[None]
    log_q, log_p = log_density(data_conditional(), x_next, x), log_density(conditional(theta), x_next, x)
    q, p = np.exp(log_q), np.exp(log_p)
    log_middle = np.logaddexp(log_q, log_p) - math.log(2)
    average = lambda f: (weight * f).sum() / (weight * q).sum()
    return average(p * (log_p - log_q)), average(q * (log_q - log_middle) + p * (log_p - log_middle)) / 2


def gaussian_pair(key, n=N):
    x0 = MEAN + S0 * noise.normal(noise.fold_in(key, 0), (n, 1))
    return denoising.pair(noise.fold_in(key, 1), x0, full(SIGMA, n), full(SIGMA_NEXT, n))


@functools.partial(jax.jit, static_argnums=0)
def losses_and_gradients(loss, phi, theta, key):
    """The N losses, and the gradient of each in phi and in theta."""

    def one(phi, theta, key, pair):
        row = jax.tree.map(lambda a: a[None], (key, pair))
        discriminator = functools.partial(quadratic, phi)
        generator = functools.partial(linear_generator, theta)
        return loss(discriminator, generator, row[0], row[1], latent=1)[0]

    pair = gaussian_pair(noise.fold_in(key, 0))
    each = jax.vmap(jax.value_and_grad(one, argnums=(0, 1)), (None, None, 0, 0))
    return each(phi, theta, noise.row_keys(noise.fold_in(key, 1), N), pair)


def test_the_matching_generator_has_the_conditional_of_the_data():
    np.testing.assert_allclose(conditional(MATCHING), data_conditional(), rtol=1e-10)
    np.testing.assert_allclose(best(MATCHING), 0, atol=1e-7)


def test_at_the_matching_generator_nothing_pulls_at_a_player():
    blind = jnp.zeros(6)
    value, (slope, _) = losses_and_gradients(denoising.discriminator_loss, blind, MATCHING, jax.random.key(0))
    np.testing.assert_allclose(value, 2 * math.log(2), rtol=1e-6)
    assert_mean(slope, 0)
    value, (_, slope) = losses_and_gradients(denoising.generator_loss, blind, MATCHING, jax.random.key(1))
    np.testing.assert_allclose(value, math.log(2), rtol=1e-6)
    np.testing.assert_array_equal(slope, np.zeros((3, N)))


def test_the_best_discriminator_is_the_ratio_of_the_densities():
    """Its loss is the divergence, and does not pull at the generator."""
    value, (slope, of_generator) = losses_and_gradients(
        denoising.discriminator_loss, best(WRONG), WRONG, jax.random.key(2)
    )
    np.testing.assert_array_equal(of_generator, np.zeros((3, N)))
    _, divergence = quadrature(WRONG)
    assert divergence > 0.02  # 300 standard errors
    assert_mean(value, 2 * math.log(2) - 2 * divergence)
    assert_mean(slope, 0)
    # And not any other: twice as sure is worse, in all the features at once.
    _, (slope, _) = losses_and_gradients(
        denoising.discriminator_loss, 2 * best(WRONG), WRONG, jax.random.key(2)
    )
    towards = np.asarray(slope) @ np.asarray(best(WRONG))
    assert towards.mean() > 4 * towards.std() / math.sqrt(N)


def test_the_generators_gradient_is_that_of_kl_less_two_jsd():
    """Arjovsky & Bottou 2017, theorem 2.5: against the best discriminator for the generator as it is.

    Where the two conditionals are equal this is zero.
    """
    _, (_, slope) = losses_and_gradients(denoising.generator_loss, best(WRONG), WRONG, jax.random.key(3))

    def objective(theta):
        divergence, jensen_shannon = quadrature(theta)
        return divergence - 2 * jensen_shannon

    for name, step in zip(Linear._fields, 1e-4 * np.eye(3), strict=True):
        ahead, behind = (objective(Linear(*(np.array(WRONG) + sign * step))) for sign in (1, -1))
        expected = (ahead - behind) / 2e-4
        assert abs(expected) > 0.01
        assert_mean(getattr(slope, name), expected)


def test_training_finds_the_generator():
    """Both players by plain gradient steps, all on one batch a step: they meet where they match."""

    def play(carry, number):
        phi, theta = carry
        key = jax.random.fold_in(jax.random.key(0), number)

        def loss(kind, phi, theta, key):
            pair = gaussian_pair(noise.fold_in(key, 0), 256)
            players = functools.partial(quadratic, phi), functools.partial(linear_generator, theta)
            return jnp.mean(kind(*players, noise.fold_in(key, 1), pair, latent=1))

        of_phi = functools.partial(loss, denoising.discriminator_loss)
        # With weight decay on the discriminator, in place of R1: the game turns in circles without.
        phi = 0.99 * (phi - 0.2 * jax.grad(of_phi)(phi, theta, jax.random.fold_in(key, 0)))
        of_theta = lambda theta: loss(denoising.generator_loss, phi, theta, jax.random.fold_in(key, 1))
        theta = jax.tree.map(lambda a, slope: a - 0.02 * slope, theta, jax.grad(of_theta)(theta))
        return (phi, theta), theta

    start = jnp.zeros(6), Linear(*map(jnp.float32, (0.9, -0.5, 0.2)))
    _, path = jax.jit(lambda: jax.lax.scan(play, start, jnp.arange(2000)))()
    found = conditional(Linear(*(np.mean(a[-500:]) for a in path)))
    # The noise of the batches of the last quarter, and what the decay leaves: a few per cent.
    np.testing.assert_allclose(found, data_conditional(), atol=0.05)


# The gradient penalty -----------------------------------------------------------------------------


def some_pair():
    x0, n, n_next = np.random.default_rng(0).standard_normal((3, 4, 3))
    sigma, sigma_next = np.array([150.0, 16.0, 2.9, 0.96]), np.array([16.0, 2.9, 0.96, 0.0])
    x_next = x0 + sigma_next[:, None] * n_next
    x = x_next + np.sqrt(sigma**2 - sigma_next**2)[:, None] * n
    return denoising.Pair(*(jnp.asarray(a, jnp.float32) for a in (x, x_next, sigma, sigma_next)))


def test_the_penalty_agrees_with_finite_differences():
    """The differences are those of the variance-preserving x_next alone, the paper's x_t."""
    pair = some_pair()
    wave = lambda x_next, x, sigma: jnp.sum(jnp.sin(x_next + x), axis=1) / sigma
    u = np.asarray(denoising.variance_preserving(pair.x_next, pair.sigma_next), float)
    scale = np.sqrt(1 + np.asarray(pair.sigma_next, float) ** 2)[:, None]
    in_paper = lambda u: np.sum(np.sin(scale * u + np.asarray(pair.x)), axis=1) / np.asarray(pair.sigma)
    h = 1e-5
    gradient = np.stack([(in_paper(u + h * e) - in_paper(u - h * e)) / (2 * h) for e in np.eye(3)], axis=1)
    found = denoising.gradient_penalty(wave, pair)
    # float32's sine of arguments up to 1e2 is good to 1e-5.
    np.testing.assert_allclose(found, np.sum(gradient**2, axis=1) / 2, rtol=1e-3)


# What the players are shown -----------------------------------------------------------------------


def test_the_players_see_the_pair_its_upper_sigma_and_latents():
    """The latents are standard normal."""
    pair, seen, shown = some_pair(), [], []

    def generator(x, sigma, z):
        seen.append((x, sigma))
        assert z.shape == (4, 5_000)
        assert_gaussian(z, 0, 1)
        return jnp.full_like(x, 9.0)

    def discriminator(x_next, x, sigma):
        seen.append((x, sigma))
        shown.append(np.asarray(x_next))
        return jnp.zeros(4)

    loss = denoising.discriminator_loss(discriminator, generator, jax.random.key(0), pair, latent=5_000)
    np.testing.assert_allclose(loss, 2 * math.log(2), rtol=1e-6)
    chex.assert_trees_all_equal(seen, 3 * [(pair.x, pair.sigma)])
    np.testing.assert_array_equal(shown[0], pair.x_next)
    assert not np.isclose(shown[1], pair.x_next).any()


# Sampling -----------------------------------------------------------------------------------------


def exact(x, sigma, z):
    """A draw from q(x0 | x) of the oracle's mixture, made of z[:, 0] for the mode and z[:, 1:] within it."""
    mixture = oracle.MIXTURE
    shares = jnp.cumsum(mixtures.responsibilities(mixture, x, sigma), axis=1)
    mode = jnp.sum(jax.scipy.special.ndtr(z[:, :1]) > shares[:, :-1], axis=1)
    means, variances, square = mixture.means[mode], mixture.variances[mode], sigma[:, None] ** 2
    shrunk = variances / (variances + square)
    return means + shrunk * (x - means) + jnp.sqrt(shrunk * square) * z[:, 1:]


@functools.partial(jax.jit, static_argnums=0)
def run(steps, key, x):
    """x at every level on the way."""
    sampler, sigmas = denoising.sampler(latent=3), denoising.levels(steps)
    return samplers.sample(key, x, sigmas, exact, sampler, collect=lambda x, memory: x)[1]


@pytest.mark.parametrize("steps", [1, 4, rest(2), rest(8)])
def test_the_exact_generator_samples_the_data_in_any_steps(steps):
    """Samples have the right distribution at every level on the way, too."""
    sigmas = denoising.levels(steps)
    path = run(steps, jax.random.key(1), samplers.prior(jax.random.key(0), (oracle.N, 2), sigmas[0]))
    # Starting from N(0, sigma_T^2 I), sigma_T = 152, in place of p_T moves less than 1 % of 1 %.
    for x, sigma in zip(path, sigmas[1:], strict=True):
        oracle.assert_moments(x, sigma)
    error = 4 * math.sqrt(0.7 * 0.3 / oracle.N)
    np.testing.assert_allclose(mixtures.mode_weights(oracle.MIXTURE, path[-1]), [0.7, 0.3], atol=error)


def test_a_step_is_one_evaluation_at_its_own_sigma():
    """The last step returns what was generated."""
    seen = []

    def generator(x, sigma, z):
        jax.debug.callback(lambda sigma: seen.append(float(sigma)), sigma[0])
        return jnp.full_like(x, 3.0)

    sigmas = denoising.levels(4)
    x = oracle.run(denoising.sampler(latent=1), jnp.zeros((2, 1)), sigmas, generator).x
    jax.effects_barrier()
    np.testing.assert_allclose(sorted(seen, reverse=True), sigmas[:-1], rtol=1e-6)
    np.testing.assert_array_equal(x, 3.0)


# Rows ---------------------------------------------------------------------------------------------


def test_sample_i_depends_on_its_own_key_alone():
    """Splitting the samples over eight devices changes nothing."""
    generator = lambda x, sigma, z: oracle.separable(x, sigma) + z.reshape(x.shape)
    oracle.assert_rows_are_their_own(denoising.sampler(latent=12), generator)


@jax.jit
def everything(key, x0):
    """The pairs, and all the losses on them, of players that look at each example by itself."""
    discriminator = lambda x_next, x, sigma: jnp.sum(jnp.sin(x_next) + x / sigma[:, None], axis=1)
    keys = noise.row_keys(key, len(x0))
    u = jax.vmap(jax.random.uniform)(noise.fold_in(keys, 3))
    pair = denoising.pair(noise.fold_in(keys, 0), x0, *denoising.step(u, denoising.levels(4)))
    players = discriminator, lambda x, sigma, z: x / (1 + sigma[:, None] ** 2) + z
    return (
        pair,
        denoising.discriminator_loss(*players, noise.fold_in(keys, 1), pair, latent=2),
        denoising.generator_loss(*players, noise.fold_in(keys, 2), pair, latent=2),
        denoising.gradient_penalty(discriminator, pair),
    )


def test_example_i_depends_on_its_own_key_alone():
    """Splitting the examples over eight devices changes nothing."""
    n, key = 32, jax.random.key(1)
    x0 = np.random.default_rng(0).standard_normal((n, 2)).astype(np.float32)
    part = everything(noise.row_keys(key, 5, start=20), x0[20:25])
    split = everything(key, jax.device_put(x0, sharding.batched(sharding.mesh())))
    assert len(split[1].sharding.device_set) == 8
    oracle.assert_close(jax.tree.map(lambda a: a[20:25], split), part)

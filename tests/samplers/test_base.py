import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import mixtures, noise, samplers, score, sharding

# Modes that overlap: between far ones the flow parts, and multiplies rounding errors by a hundred.
SMOOTH = functools.partial(mixtures.score, mixtures.two_modes(distance=3.0, std=0.7))
RING = functools.partial(mixtures.score, mixtures.ring())
GAUSSIAN = functools.partial(mixtures.score, mixtures.isotropic([1.0], [[1.0, -2.0]], 0.7))
SIGMAS = noise.levels(noise.karras(0.05, 10.0), 6)
STILL = samplers.memoryless(lambda key, x, score, sigma, sigma_next: x)
COUNTER = samplers.Sampler(
    init=lambda x: jnp.zeros((), jnp.int32),
    step=lambda key, x, memory, score, sigma, sigma_next: (x, memory + 1),
)


def add_noise(key, x, score, sigma, sigma_next):
    return x + noise.normal(key, x.shape)


# The loop -----------------------------------------------------------------------------------------


def test_the_sampler_is_told_every_pair_of_levels():
    spy = samplers.memoryless(
        lambda key, x, score, sigma, sigma_next: x * 0 + jnp.stack([sigma, sigma_next])[None]
    )
    _, seen = samplers.sample(
        jax.random.key(0), jnp.zeros((1, 2)), SIGMAS, RING, spy, collect=lambda x, memory: x[0]
    )
    np.testing.assert_array_equal(seen, np.stack([SIGMAS[:-1], SIGMAS[1:]], axis=1))


def test_collect_is_stacked_over_the_steps():
    """It costs nothing if it is not asked for."""
    x = samplers.prior(jax.random.key(0), (5, 2), SIGMAS[0])
    key = jax.random.key(1)
    last, nothing = samplers.sample(key, x, SIGMAS, RING, samplers.euler())
    assert last.shape == (5, 2)
    assert nothing is None
    again, path = samplers.sample(key, x, SIGMAS, RING, samplers.euler(), collect=lambda x, memory: x)
    assert path.shape == (6, 5, 2)
    np.testing.assert_array_equal(path[-1], last)
    np.testing.assert_array_equal(again, last)
    _, means = samplers.sample(key, x, SIGMAS, RING, samplers.euler(), collect=lambda x, memory: x.mean())
    assert means.shape == (6,)


def test_every_step_has_fresh_noise():
    adds = samplers.memoryless(add_noise)
    _, path = samplers.sample(
        jax.random.key(0), jnp.zeros((20, 3)), SIGMAS, RING, adds, collect=lambda x, memory: x
    )
    draws = np.diff(np.asarray(path), axis=0, prepend=0)
    assert len(np.unique(np.round(draws, 5))) == draws.size


def test_prior_is_noise_of_the_largest_level():
    x = np.asarray(samplers.prior(jax.random.key(0), (20_000, 2), 50.0), float)
    # Standard error of a standard deviation: 1 / sqrt(2 n) of it; 4 of them are 2 %.
    np.testing.assert_allclose(x.std(axis=0), 50.0, rtol=0.02)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=4 * 50 / np.sqrt(20_000))


# Sample i depends on (key, i) alone ----------------------------------------------------------------

STOCHASTIC = {
    "ancestral": samplers.ancestral(),
    "predictor-corrector": samplers.chain(samplers.langevin(lambda sigma: 0.1 * sigma**2), samplers.heun()),
    "annealed": samplers.repeat(samplers.langevin(samplers.annealed(1e-3, 0.05)), 3),
    "churned": samplers.churn(20.0, samplers.heun(), steps=6),
}
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}  # float32, and sums vectorised in another order


@functools.partial(jax.jit, static_argnums=0)
def run(name, key, x):
    return samplers.sample(key, x, SIGMAS, SMOOTH, STOCHASTIC[name])[0]


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_sample_does_not_depend_on_batch_split_or_devices(name):
    n, sigma, key, start = 96, float(SIGMAS[0]), jax.random.key(1), jax.random.key(2)
    x = samplers.prior(start, (n, 2), sigma)
    whole = run(name, key, x)
    assert np.isfinite(whole).all()
    # A batch of one, and a part of the batch with the keys of its rows.
    np.testing.assert_allclose(run(name, key, x[:1]), whole[:1], **TOLERANCE)
    part = run(name, noise.row_keys(key, 40, start=30), x[30:70])
    np.testing.assert_allclose(part, whole[30:70], **TOLERANCE)
    # Split over eight devices: rows are global there.
    assert jax.device_count() == 8
    place = sharding.batched(sharding.mesh())
    keys = jax.device_put(noise.row_keys(key, n), place)
    sharded = run(name, keys, jax.device_put(x, place))
    assert len(sharded.sharding.device_set) == 8
    np.testing.assert_allclose(sharded, whole, **TOLERANCE)


# Composition ----------------------------------------------------------------------------------------


def test_chain_and_repeat_carry_every_samplers_memory():
    nested = samplers.chain(samplers.repeat(COUNTER, 3), STILL, samplers.churn(1.0, COUNTER, steps=6))
    _, memory = samplers.sample(
        jax.random.key(0), jnp.zeros((2, 2)), SIGMAS, RING, nested, collect=lambda x, memory: memory
    )
    three, still, one = memory
    np.testing.assert_array_equal(three, 3 * np.arange(1, 7))
    assert still == ()
    np.testing.assert_array_equal(one, np.arange(1, 7))


def test_chain_runs_its_members_in_order():
    double = samplers.memoryless(lambda key, x, score, sigma, sigma_next: 2 * x)
    increment = samplers.memoryless(lambda key, x, score, sigma, sigma_next: x + 1)
    sigmas, x = jnp.array([1.0, 0.0]), jnp.ones((1, 1))
    first, _ = samplers.sample(jax.random.key(0), x, sigmas, RING, samplers.chain(double, increment))
    second, _ = samplers.sample(jax.random.key(0), x, sigmas, RING, samplers.chain(increment, double))
    assert float(first[0, 0]) == 3
    assert float(second[0, 0]) == 4


def test_members_and_repetitions_have_noise_of_their_own():
    # n independent normals add up to variance n; the same one n times would give n^2.
    adds = samplers.memoryless(add_noise)
    both = samplers.chain(samplers.repeat(adds, 3), adds)
    x, _ = samplers.sample(jax.random.key(0), jnp.zeros((4000, 2)), jnp.array([1.0, 0.0]), RING, both)
    np.testing.assert_allclose(np.var(x), 4, rtol=4 * np.sqrt(2 / 8000))  # 4 standard errors


def test_corrector_then_predictor_is_better_than_the_other_order():
    # The corrector moves at sigma; after the predictor x is at sigma_next already, and the noise
    # that Langevin then adds is that of the level before. Few levels, so that it shows.
    n, truth = 20_000, 0.7
    sigmas = noise.levels(noise.karras(0.02, 5.0), 10)
    corrector = samplers.langevin(lambda sigma: 0.1 * sigma**2)
    mean = jnp.array([[1.0, -2.0]])
    x = mean + samplers.prior(jax.random.key(0), (n, 2), jnp.sqrt(sigmas[0] ** 2 + truth**2))
    error = {}
    orders = {
        "corrector first": samplers.chain(corrector, samplers.heun()),
        "predictor first": samplers.chain(samplers.heun(), corrector),
    }
    for name, sampler in orders.items():
        end, _ = jax.jit(
            lambda x, sampler=sampler: samplers.sample(jax.random.key(1), x, sigmas, GAUSSIAN, sampler)
        )(x)
        error[name] = abs(float(np.std(end, axis=0).mean()) - truth)
    # The standard error of the two standard deviations' mean is 0.7 / sqrt(4 n) = 0.0025.
    assert error["corrector first"] < 0.5 * error["predictor first"]
    assert error["predictor first"] > 0.01


@pytest.mark.parametrize(
    "make",
    [
        lambda: samplers.repeat(STILL, 0),
        lambda: samplers.churn(-1.0, STILL, steps=10),
        lambda: samplers.churn(1.0, STILL, steps=0),
    ],
)
def test_impossible_compositions_are_refused(make):
    with pytest.raises(ValueError, match=r"\d"):
        make()


# Churn ----------------------------------------------------------------------------------------------


def test_churn_of_nothing_is_the_sampler_itself():
    x = samplers.prior(jax.random.key(0), (10, 2), SIGMAS[0])
    plain, _ = samplers.sample(jax.random.key(1), x, SIGMAS, RING, samplers.heun())
    churned, _ = samplers.sample(
        jax.random.key(1), x, SIGMAS, RING, samplers.churn(0.0, samplers.heun(), steps=6)
    )
    np.testing.assert_array_equal(plain, churned)


@pytest.mark.parametrize(
    ("amount", "sigma", "options", "gamma", "scale"),
    [
        (3.0, 2.0, {}, 0.3, 1.0),
        (40.0, 2.0, {}, np.sqrt(2) - 1, 1.0),  # the cap: the noise variance at most doubles
        (3.0, 2.0, {"noise_scale": 1.5}, 0.3, 1.5),
        (3.0, 2.0, {"sigma_max": 1.9}, 0.0, 1.0),
        (3.0, 2.0, {"sigma_min": 2.1}, 0.0, 1.0),
        (3.0, 2.0, {"sigma_min": 2.0, "sigma_max": 2.0}, 0.3, 1.0),
    ],
)
def test_churn_raises_the_noise_and_says_so(amount, sigma, options, gamma, scale):
    n, told = 20_000, []

    def spy(key, x, score, sigma, sigma_next):
        told.append(sigma)
        return x

    churned = samplers.churn(amount, samplers.memoryless(spy), steps=10, **options)
    x = jnp.zeros((n, 1))
    x, _ = churned.step(jax.random.key(0), x, (), RING, jnp.asarray(sigma), jnp.asarray(1.0))
    np.testing.assert_allclose(told[0], (1 + gamma) * sigma, rtol=1e-6)
    added = scale**2 * (told[0] ** 2 - sigma**2)
    np.testing.assert_allclose(np.var(x), added, rtol=4 * np.sqrt(2 / n), atol=1e-12)


def test_churned_heun_keeps_a_gaussian():
    n, sigmas = 20_000, noise.levels(noise.karras(0.02, 5.0), 18)
    mean = jnp.array([[1.0, -2.0]])
    x = mean + samplers.prior(jax.random.key(0), (n, 2), jnp.sqrt(sigmas[0] ** 2 + 0.49))
    churned = samplers.churn(9.0, samplers.heun(), steps=18)
    x, _ = jax.jit(lambda x: samplers.sample(jax.random.key(1), x, sigmas, GAUSSIAN, churned))(x)
    # 4 standard errors, 2 %, and as much again for the error of 18 steps.
    np.testing.assert_allclose(np.std(x, axis=0), 0.7, rtol=0.04)
    np.testing.assert_allclose(np.mean(x, axis=0), mean[0], atol=4 * 0.7 / np.sqrt(n))


# Denoise last ---------------------------------------------------------------------------------------


def test_denoise_last_acts_on_the_last_step_alone():
    x = mixtures.draw(jax.random.key(0), mixtures.ring(), 10)
    last, path = samplers.sample(
        jax.random.key(1), x, SIGMAS, RING, samplers.denoise_last(), collect=lambda x, memory: x
    )
    for before in path[:-1]:
        np.testing.assert_array_equal(before, x)
    np.testing.assert_allclose(last, score.denoise(RING, x, jnp.full(10, SIGMAS[-2])), rtol=1e-6)


# Cost -----------------------------------------------------------------------------------------------


def compiled(n, sampler, traces, collect=None):
    def counted(x, sigma):
        traces.append(n)
        return RING(x, sigma)

    run = jax.jit(lambda key, x, sigmas: samplers.sample(key, x, sigmas, counted, sampler, collect=collect))
    sigmas = noise.levels(noise.karras(0.05, 10.0), n)
    return run.lower(jax.random.key(0), jnp.zeros((64, 2)), sigmas).compile().memory_analysis()


@pytest.mark.parametrize("name", ["annealed", "predictor-corrector", "churned"])
def test_compiling_and_memory_do_not_grow_with_the_steps(name):
    few, many = [], []
    small = compiled(5, STOCHASTIC[name], few)
    large = compiled(500, STOCHASTIC[name], many)
    assert len(few) == len(many)
    assert len(many) <= 4
    # The levels are sliced into sigmas and sigmas_next: 3 numbers of 4 bytes a step, and no x.
    assert large.temp_size_in_bytes - small.temp_size_in_bytes <= 495 * 3 * 4 + 1024
    assert large.output_size_in_bytes == small.output_size_in_bytes


def test_collecting_stores_what_is_collected():
    large = compiled(500, samplers.euler(), [], collect=lambda x, memory: x)
    assert large.output_size_in_bytes >= 500 * 64 * 2 * 4


# From the prior to samples ------------------------------------------------------------------------


def gaussian(x, sigma):
    """The score of N(3, 0.5^2 I)."""
    return (3.0 - x) / (0.25 + sigma**2)[:, None]


GRID = noise.levels(noise.karras(0.01, 5.0), 12)


def test_moments_are_the_mean_and_the_variance_about_it():
    x = np.random.default_rng(0).standard_normal((500, 3, 2)) * 2 + np.arange(6).reshape(3, 2)
    found = samplers.moments(x)
    np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.variance, x.var(axis=0).mean(), rtol=1e-5)


def test_a_prior_with_moments_leaves_no_bias():
    """Without them the mean is short by 3 * 0.5 / sqrt(0.25 + 25), the flow's contraction of the start."""
    draw = lambda moments: samplers.generate(
        jax.random.key(0), (4000, 2), GRID, gaussian, samplers.heun(), moments=moments
    )
    # 8,000 numbers of standard deviation 0.5: the mean's standard error is 0.006.
    short = 3 * (1 - 0.5 / np.sqrt(25.25))
    np.testing.assert_allclose(draw(None).mean(), 3 - (3 - short), atol=0.05)
    x = draw(samplers.Moments(jnp.full(2, 3.0), jnp.array(0.25)))
    np.testing.assert_allclose(x.mean(), 3, atol=0.025)
    np.testing.assert_allclose(x.std(), 0.5, rtol=0.04)


def test_generate_is_the_prior_and_then_the_sampler():
    keys = noise.row_keys(jax.random.key(0), 5)
    whole = samplers.generate(jax.random.key(0), (5, 2), GRID, gaussian, samplers.ancestral())
    by_keys = samplers.generate(keys, (2,), GRID, gaussian, samplers.ancestral())
    keys = noise.row_keys(jax.random.key(0), 5)
    start = samplers.prior(noise.fold_in(keys, 0), (5, 2), GRID[0])
    x, _ = samplers.sample(noise.fold_in(keys, 1), start, GRID, gaussian, samplers.ancestral())
    np.testing.assert_array_equal(whole, x)
    np.testing.assert_array_equal(by_keys, x)


COUNTS = {
    "euler": (samplers.euler(), 7, 7),
    "heun": (samplers.heun(), 7, 13),
    "churned heun": (samplers.churn(3.0, samplers.heun(), steps=7), 7, 13),
    "repeated": (samplers.repeat(samplers.langevin(0.1), 3), 5, 15),
    "predictor-corrector": (samplers.chain(samplers.langevin(0.1), samplers.ancestral()), 4, 8),
    "denoised at the end": (samplers.chain(samplers.langevin(0.1), samplers.denoise_last()), 4, 5),
    "metropolis": (samplers.metropolis_along_path(0.1, points=3), 4, 20),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_evaluations_are_counted(name):
    sampler, n, expected = COUNTS[name]
    assert samplers.evaluations(sampler, n) == expected


def test_a_chain_of_no_samplers_is_refused():
    with pytest.raises(ValueError, match="at least one sampler"):
        samplers.chain()

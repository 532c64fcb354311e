import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import mixtures, noise, samplers, score
from tests.draws import assert_gaussian
from tests.grids import rest
from tests.samplers import oracle

RING = functools.partial(mixtures.score, mixtures.ring())
SIGMAS = noise.levels(noise.karras(0.05, 10.0), 6)
STEP = jnp.array([1.0, 0.0])
STILL = samplers.memoryless(lambda key, x, score, sigma, sigma_next: x)
COUNTER = samplers.Sampler(
    init=lambda x: jnp.zeros((), jnp.int32),
    step=lambda key, x, memory, score, sigma, sigma_next: (x, memory + 1),
)


@samplers.memoryless
def adds(key, x, score, sigma, sigma_next):
    return x + noise.normal(key, x.shape)


# The loop -----------------------------------------------------------------------------------------


def test_the_sampler_is_told_every_pair_of_levels():
    spy = samplers.memoryless(
        lambda key, x, score, sigma, sigma_next: x * 0 + jnp.stack([sigma, sigma_next])[None]
    )
    seen = oracle.run(spy, jnp.zeros((1, 2)), SIGMAS).path[:, 0]
    np.testing.assert_array_equal(seen, np.stack([SIGMAS[:-1], SIGMAS[1:]], axis=1))


def test_collect_is_stacked_over_the_steps():
    x = samplers.prior(jax.random.key(0), (5, 2), SIGMAS[0])
    run = lambda collect: samplers.sample(
        jax.random.key(1), x, SIGMAS, RING, samplers.euler(), collect=collect
    )
    (last, nothing), (again, path) = run(None), run(lambda x, memory: x)
    assert (last.shape, nothing, path.shape) == ((5, 2), None, (6, 5, 2))
    np.testing.assert_array_equal(path[-1], last)
    np.testing.assert_array_equal(again, last)
    np.testing.assert_allclose(run(lambda x, memory: x.mean())[1], path.mean(axis=(1, 2)), rtol=1e-5)


def test_every_step_has_fresh_noise():
    draws = np.diff(oracle.run(adds, jnp.zeros((20, 3)), SIGMAS).path, axis=0, prepend=0)
    assert len(np.unique(np.round(draws, 5))) == draws.size


def test_prior_is_noise_of_the_largest_level():
    assert_gaussian(samplers.prior(jax.random.key(0), (20_000, 2), 50.0), 0, 50.0**2)


STOCHASTIC = {
    "predictor-corrector": samplers.chain(samplers.langevin(lambda sigma: 0.1 * sigma**2), samplers.heun()),
    "annealed": samplers.repeat(samplers.langevin(samplers.annealed(1e-3, 0.05)), 3),
    "churned": samplers.churn(20.0, samplers.heun(), steps=6),
}
OF_THEIR_OWN = STOCHASTIC | {
    "ancestral": samplers.ancestral(),
    "consistent": samplers.consistent(0.9),
    "signal to noise": samplers.chain(samplers.langevin_signal_to_noise(0.16), samplers.reverse_diffusion()),
    "metropolis": samplers.metropolis(oracle.separable_log_density, lambda sigma: 0.3 * sigma**2),
    "two draws in a step": samplers.dpm_solver_pp_sde(),
    "restart": samplers.restart(samplers.heun(), sigma_min=1.0, sigma_max=3.0, steps=2, times=2),
}


@pytest.mark.parametrize("name", OF_THEIR_OWN)
def test_rows_are_their_own_in_any_shape(name):
    """Sample i depends on (key, i) alone, whatever the batch, its split and the devices."""
    oracle.assert_rows_are_their_own(OF_THEIR_OWN[name])


TO_ZERO = {
    "euler": samplers.euler(),
    "heun": samplers.heun(),
    "ancestral": samplers.ancestral(),
    "reverse diffusion": samplers.reverse_diffusion(),
    "consistent": samplers.consistent(0.3),
    "denoise last": samplers.denoise_last(),
    "dpm_solver_2": samplers.dpm_solver_2(),
    "dpm_solver_pp_2s": samplers.dpm_solver_pp_2s(),
    "ancestral 2s": samplers.ancestral(samplers.dpm_solver_pp_2s()),
    "dpm_solver_pp": samplers.dpm_solver_pp(3, eta=1.0),
    "dpm_solver_pp_sde": samplers.dpm_solver_pp_sde(),
    "deis": samplers.deis(),
    "lms": samplers.lms(),
    "unipc": samplers.unipc(),
    "euler_maruyama": samplers.euler_maruyama(2.0),
    "restart": samplers.restart(samplers.euler(), sigma_min=0.1, sigma_max=1.0, steps=3),
}


@pytest.mark.parametrize("name", TO_ZERO)
def test_the_step_to_zero_is_tweedies_denoising(name):
    x = mixtures.draw(jax.random.key(0), mixtures.ring(), 50, sigma=0.2)
    alone = TO_ZERO[name]._replace(order=1)  # a single step, which multistep solvers refuse otherwise
    end = oracle.run(alone, x, [0.2, 0.0], RING).x
    np.testing.assert_allclose(end, score.denoise(RING, x, jnp.full(50, 0.2)), rtol=1e-5)


# Composition ----------------------------------------------------------------------------------------


def test_chain_and_repeat_carry_every_samplers_memory():
    nested = samplers.chain(samplers.repeat(COUNTER, 3), STILL, samplers.churn(1.0, COUNTER, steps=6))
    three, still, one = oracle.run(nested, jnp.zeros((2, 2)), SIGMAS).memory
    np.testing.assert_array_equal(three, 3 * np.arange(1, 7))
    assert still == ()
    np.testing.assert_array_equal(one, np.arange(1, 7))


def test_chain_runs_its_members_in_order():
    double = samplers.memoryless(lambda key, x, score, sigma, sigma_next: 2 * x)
    increment = samplers.memoryless(lambda key, x, score, sigma, sigma_next: x + 1)
    ends = lambda *members: float(oracle.run(samplers.chain(*members), jnp.ones((1, 1)), STEP).x[0, 0])
    assert (ends(double, increment), ends(increment, double)) == (3, 4)


def test_members_and_repetitions_have_noise_of_their_own():
    # n independent normals add up to variance n; the same one n times would give n^2.
    both = samplers.chain(samplers.repeat(adds, 3), adds)
    assert_gaussian(oracle.run(both, jnp.zeros((4000, 2)), STEP).x, 0, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: samplers.chain(), "at least one sampler"),
        (lambda: samplers.repeat(STILL, 0), "times = 0"),
        (lambda: samplers.churn(-1.0, STILL, steps=10), r"amount >= 0 .* -1\.0"),
        (lambda: samplers.churn(1.0, STILL, steps=0), "steps >= 1, .* 0"),
    ],
)
def test_impossible_compositions_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Churn ----------------------------------------------------------------------------------------------


def test_churn_of_nothing_is_the_sampler_itself():
    x = samplers.prior(jax.random.key(0), (10, 2), SIGMAS[0])
    plain, churned = samplers.heun(), samplers.churn(0.0, samplers.heun(), steps=6)
    np.testing.assert_array_equal(*(oracle.run(each, x, SIGMAS, RING).x for each in (plain, churned)))


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
    told = []

    @samplers.memoryless
    def spy(key, x, score, sigma, sigma_next):
        told.append(sigma)
        return x

    churned = samplers.churn(amount, spy, steps=10, **options)
    x, _ = oracle.step(churned, jax.random.key(0), jnp.zeros((20_000, 1)), sigma, RING)
    np.testing.assert_allclose(told[0], (1 + gamma) * sigma, rtol=1e-6)
    assert_gaussian(x, 0, scale**2 * (told[0] ** 2 - sigma**2))


def test_churned_heun_keeps_a_gaussian():
    n, sigmas, mean = 20_000, noise.levels(noise.karras(0.02, 5.0), 18), jnp.array([[1.0, -2.0]])
    x = mean + samplers.prior(jax.random.key(0), (n, 2), jnp.sqrt(sigmas[0] ** 2 + 0.49))
    gaussian = functools.partial(mixtures.score, mixtures.isotropic([1.0], mean.tolist(), 0.7))
    x = oracle.run(samplers.churn(9.0, samplers.heun(), steps=18), x, sigmas, gaussian).x
    # 4 standard errors, 2 %, and as much again for the error of 18 steps.
    np.testing.assert_allclose(np.std(x, axis=0), 0.7, rtol=0.04)
    np.testing.assert_allclose(np.mean(x, axis=0), mean[0], atol=4 * 0.7 / np.sqrt(n))


def test_denoise_last_acts_on_the_last_step_alone():
    x = mixtures.draw(jax.random.key(0), mixtures.ring(), 10)
    path = oracle.run(samplers.denoise_last(), x, SIGMAS, RING).path
    np.testing.assert_array_equal(path[:-1], np.broadcast_to(x, (5, 10, 2)))
    np.testing.assert_allclose(path[-1], score.denoise(RING, x, jnp.full(10, SIGMAS[-2])), rtol=1e-6)


# Cost -----------------------------------------------------------------------------------------------


def compiled(n, sampler, traces, collect=None):
    def counted(x, sigma):
        traces.append(n)
        return RING(x, sigma)

    run = jax.jit(lambda key, x, sigmas: samplers.sample(key, x, sigmas, counted, sampler, collect=collect))
    sigmas = noise.levels(noise.karras(0.05, 10.0), n)
    return run.lower(jax.random.key(0), jnp.zeros((64, 2)), sigmas).compile().memory_analysis()


@pytest.mark.parametrize("name", ["annealed", "churned", rest("predictor-corrector")])
def test_compiling_and_memory_do_not_grow_with_the_steps(name):
    few, many = [], []
    small, large = compiled(5, STOCHASTIC[name], few), compiled(500, STOCHASTIC[name], many)
    assert len(few) == len(many) <= 4
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


SAMPLERS = {
    "heun": samplers.heun(),
    "euler": samplers.euler(),
    "ancestral": samplers.ancestral(),
    "reverse_diffusion": samplers.reverse_diffusion(),
    "churn": samplers.churn(4.0, samplers.heun(), steps=11),
    "consistent": samplers.consistent(0.3),
    "langevin": samplers.chain(
        samplers.repeat(samplers.langevin(samplers.annealed(1e-5, 0.01)), 3), samplers.denoise_last()
    ),
    "signal_to_noise": samplers.langevin_signal_to_noise(0.16),
    "coupled": samplers.langevin_signal_to_noise_coupled(0.16),
    "metropolis": samplers.metropolis_along_path(lambda sigma: sigma**2 / 4),
    "unipc": samplers.unipc(),
    "dpm_solver_pp": samplers.dpm_solver_pp(3, eta=1.0),
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("dtype", ["bfloat16", rest("float16")])
def test_x_of_16_bits_is_stepped_in_float32(name, dtype):
    """The samples are those of the same start in float32, rounded at the end alone."""
    start = samplers.prior(jax.random.key(0), (50, 2), GRID[0]).astype(dtype)
    draw = lambda x: samplers.sample(jax.random.key(1), x, GRID, gaussian, SAMPLERS[name])[0]
    x, exact = draw(start), draw(start.astype(jnp.float32))
    assert (x.dtype, exact.dtype) == (dtype, jnp.float32)
    np.testing.assert_array_equal(x, exact.astype(dtype))


@pytest.mark.parametrize("name", ["heun", "langevin", "metropolis", "unipc", "dpm_solver_pp"])
def test_with_64_bits_the_type_is_still_that_of_x(name):
    """Levels are then float64, and so is what a score makes of them."""
    with jax.enable_x64(True):
        sigmas = noise.levels(noise.karras(0.01, 5.0), 12)
        draw = lambda x: samplers.sample(jax.random.key(1), x, sigmas, gaussian, SAMPLERS[name])[0]
        ones = [jnp.ones((3, 2), dtype) for dtype in (jnp.float32, jnp.float64)]
        assert [draw(x).dtype for x in ones] == [jnp.float32, jnp.float64]


BAD_GRIDS = {
    "up": [0.1, 1.0, 10.0, 0.0],
    "nan": [10.0, jnp.nan, 0.0],
    "infinite": [jnp.inf, 1.0, 0.0],
    "zero before the end": [1.0, 0.0, 0.0],
    "below zero": [1.0, -0.5],
    "one level": [1.0],
}


@pytest.mark.parametrize("name", BAD_GRIDS)
def test_a_grid_that_no_sampler_can_follow_is_refused(name):
    grid = jnp.array(BAD_GRIDS[name])
    with pytest.raises(ValueError, match=r"^sigmas "):
        samplers.generate(jax.random.key(0), (5, 2), grid, gaussian, samplers.heun())


def test_samples_that_would_keep_noise_are_refused():
    """Levels that end above zero are for `sample`, which goes on from where it stops."""
    with pytest.raises(ValueError, match="must end in zero"):
        samplers.generate(jax.random.key(0), (5, 2), GRID[:-1], gaussian, samplers.heun())


@pytest.mark.parametrize("make", ["rbg", "unsafe_rbg", "raw", "raw rbg"])
def test_other_keys_keep_the_promise_of_the_row(make):
    """Sample i is a function of the key and of i: rbg draws other numbers for another number of rows."""
    impl = make.removeprefix("raw ") if "rbg" in make else None
    key = jax.random.PRNGKey(3, impl=impl) if "raw" in make else jax.random.key(3, impl=impl)
    draw = lambda n: samplers.generate(key, (n, 2), GRID, gaussian, samplers.ancestral())
    np.testing.assert_array_equal(draw(7)[:3], draw(3))


def test_what_is_no_key_is_refused():
    with pytest.raises(ValueError, match=r"a key is needed, not uint32\[3\]; make it with jax.random.key"):
        noise.row_keys(jnp.zeros(3, jnp.uint32), 3)


def test_evaluations_cannot_be_counted_inside_jit():
    with pytest.raises(ValueError, match="call this outside of jit"):
        jax.jit(lambda: samplers.evaluations(samplers.heun(), 12))()


def test_generate_is_the_prior_and_then_the_sampler():
    keys = noise.row_keys(jax.random.key(0), 5)
    whole = samplers.generate(jax.random.key(0), (5, 2), GRID, gaussian, samplers.ancestral())
    by_keys = samplers.generate(keys, (2,), GRID, gaussian, samplers.ancestral())
    keys = noise.row_keys(jax.random.key(0), 5)
    start = samplers.prior(noise.fold_in(keys, 0), (5, 2), GRID[0])
    x, _ = samplers.sample(noise.fold_in(keys, 1), start, GRID, gaussian, samplers.ancestral())
    np.testing.assert_array_equal(whole, x)
    np.testing.assert_array_equal(by_keys, x)


RESTARTED = samplers.restart(samplers.heun(), sigma_min=1.0, sigma_max=2.5, steps=3, times=2)
COUNTS = {
    "euler": (samplers.euler(), 18, 18),
    "heun": (samplers.heun(), 18, 35),  # the paper's number
    "churned heun": (samplers.churn(3.0, samplers.heun(), steps=7), 7, 13),
    "repeated": (samplers.repeat(samplers.langevin(0.1), 3), 5, 15),
    "predictor-corrector": (samplers.chain(samplers.langevin(0.1), samplers.ancestral()), 4, 8),
    "denoised at the end": (samplers.chain(samplers.langevin(0.1), samplers.denoise_last()), 4, 5),
    "metropolis": (samplers.metropolis(oracle.separable_log_density, 0.1), 4, 8),
    "dpm_solver_2": (samplers.dpm_solver_2(), 10, 19),
    "dpm_solver_pp_2s": (samplers.dpm_solver_pp_2s(), 10, 19),
    "dpm_solver_pp_sde": (samplers.dpm_solver_pp_sde(), 10, 19),
    "unipc": (samplers.unipc(), 10, 10),  # the corrector costs none
    "lms": (samplers.lms(), 10, 10),
    # Twice three steps of Heun's method, after the step to 0.9.
    "restart": (RESTARTED, jnp.array([3.0, 2.0, 0.9, 0.5, 0.0]), 7 + 2 * 6),
    "metropolis along the path": (samplers.metropolis_along_path(0.1, points=3), 4, 20),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_evaluations_are_counted(name):
    """While it runs: a score that is traced in a branch that is not taken costs nothing."""
    sampler, n, expected = COUNTS[name]
    assert samplers.evaluations(sampler, n) == expected


@pytest.mark.parametrize("grid", [GRID[::-1], GRID.at[3].set(jnp.nan), GRID[:-1]])
def test_wrong_levels_that_are_traced_make_samples_nan(grid):
    draw = lambda grid: samplers.generate(jax.random.key(0), (5, 2), grid, gaussian, samplers.heun())
    assert jnp.isnan(jax.jit(draw)(grid)).all()
    assert jnp.isfinite(jax.jit(draw)(GRID)).all()

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import mixtures, noise, samplers
from tests.samplers import oracle
from tests.samplers.test_ode import GAUSSIAN, X


def test_order_one_is_eulers_method():
    sigmas = noise.levels(noise.karras(0.1, 3.0), 6)
    ends = [
        oracle.run(sampler, X, sigmas, GAUSSIAN).x
        for sampler in (samplers.dpm_solver_pp(1), samplers.euler())
    ]
    np.testing.assert_allclose(*ends, rtol=1e-5)


# Orders on a mixture --------------------------------------------------------------------------------


MIXTURE = mixtures.isotropic([0.5, 0.3, 0.2], [[1.0, 0.5], [-1.2, 0.8], [0.3, -1.4]], 0.3)


def error(sampler, sigmas, truth):
    score = functools.partial(mixtures.score, MIXTURE)
    return float(jnp.sqrt(jnp.mean((oracle.run(sampler, start(), sigmas, score).x - truth) ** 2)))


def start():
    return 4 * jax.random.normal(jax.random.key(0), (32, 2), jnp.float64)


def grid(n, warm):
    """n even steps in ln sigma from 4 to 0.3; a warm start has h^3, h^2.5, h^2 and h^1.5 before them."""
    total = np.log(4.0 / 0.3)
    first = (total / n) ** np.array([3.0, 2.5, 2.0, 1.5]) if warm else np.zeros(0)
    steps = np.append(first, np.full(n, (total - first.sum()) / n))
    return 4.0 * np.exp(-np.append(0.0, np.cumsum(steps)))


ORDERS = {
    "dpm_solver_pp 2": (samplers.dpm_solver_pp(2), 2),
    "dpm_solver_pp 2 heun": (samplers.dpm_solver_pp(2, variant="heun"), 2),
    "dpm_solver_pp 3": (samplers.dpm_solver_pp(3), 2),  # as published; the factor is smaller
    "unipc 1": (samplers.unipc(1), 2),
    "unipc 2": (samplers.unipc(2), 3),
    "unipc 2 bh1": (samplers.unipc(2, variant="bh1"), 3),
    "unipc 3": (samplers.unipc(3), 4),
    "deis 2": (samplers.deis(2), 2),
    "deis 3": (samplers.deis(3), 3),
    "lms 2": (samplers.lms(2), 2),
    "lms 3": (samplers.lms(3), 3),
    "lms 4": (samplers.lms(4), 4),
}


@pytest.mark.parametrize("name", ORDERS)
def test_the_error_falls_with_the_order(name):
    """With a warm start, in float64; from 64 to 128 steps the slope is that of the order within 0.2."""
    sampler, order = ORDERS[name]
    with jax.enable_x64(True):
        score = functools.partial(mixtures.score, MIXTURE)
        truth = oracle.run(samplers.unipc(3), start(), grid(2000, warm=True), score).x
        errors = [error(sampler, grid(n, warm=True), truth) for n in (64, 128)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(("name", "order"), [("lms 4", 2), ("deis 3", 2), ("unipc 3", 4)])
def test_a_cold_start_has_the_order_of_its_first_step(name, order):
    """Its first step is of order 1, with an error of h^2; UniPC corrects it."""
    with jax.enable_x64(True):
        score = functools.partial(mixtures.score, MIXTURE)
        truth = oracle.run(samplers.unipc(3), start(), grid(2000, warm=True), score).x
        errors = [error(ORDERS[name][0], grid(n, warm=False), truth) for n in (128, 256)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.3)


# Steps ----------------------------------------------------------------------------------------------


SOLVERS = {
    "dpm_solver_pp 1": samplers.dpm_solver_pp(1),
    "dpm_solver_pp 2": samplers.dpm_solver_pp(2),
    "dpm_solver_pp 3": samplers.dpm_solver_pp(3),
    "deis": samplers.deis(),
    "lms": samplers.lms(),
    "unipc": samplers.unipc(),
    "unipc 2 bh1": samplers.unipc(2, variant="bh1"),
}


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("name", SOLVERS)
def test_a_constant_denoiser_is_reached_exactly(name, n):
    """Also with equal levels in the grid: nothing is NaN, in the gradient neither."""
    point = jnp.array([3.0, -1.0])
    score = lambda x, sigma: (point[None] - x) / sigma[:, None] ** 2
    sigmas = jnp.append(jnp.repeat(jnp.geomspace(80.0, 0.01, n), 2), 0.0)

    def total(sigmas):
        end, _ = samplers.sample(jax.random.key(0), X, sigmas, score, SOLVERS[name])
        return end.sum(), end

    slope, end = jax.jit(jax.grad(total, has_aux=True))(sigmas)
    np.testing.assert_allclose(end, jnp.tile(point, (3, 1)), rtol=2e-5)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("name", ["dpm_solver_pp 2", "dpm_solver_pp 3", "deis", "lms"])
def test_equal_levels_are_one(name):
    sigmas = jnp.array([5.0, 3.0, 2.0, 1.0, 0.5, 0.0])
    twice = jnp.array([5.0, 3.0, 3.0, 2.0, 1.0, 1.0, 1.0, 0.5, 0.0])
    ends = [oracle.run(SOLVERS[name], X, grid, GAUSSIAN).x for grid in (sigmas, twice)]
    np.testing.assert_allclose(*ends, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["dpm_solver_pp 2", "dpm_solver_pp 3", "deis", "lms"])
def test_after_a_rise_of_the_noise_lower_levels_are_forgotten(name):
    """As in `churn`: at level 3, the evaluation at 4 is used, and the one at 2 is not."""
    sampler, key = SOLVERS[name], jax.random.key(0)

    def at_last(levels):
        memory = sampler.init(X)
        for sigma in levels:
            x, memory = sampler.step(key, X, memory, GAUSSIAN, jnp.float32(sigma), jnp.float32(1.0))
        return x

    np.testing.assert_array_equal(at_last([4.0, 2.0, 3.0]), at_last([4.0, 3.0]))
    assert not np.allclose(at_last([4.0, 3.0]), at_last([3.0]), rtol=1e-3)


@pytest.mark.parametrize("name", ["dpm_solver_pp 3", "unipc"])
def test_rows_are_their_own(name):
    sigmas = noise.levels(noise.karras(0.1, 3.0), 6)
    whole = oracle.run(SOLVERS[name], X, sigmas, GAUSSIAN).x
    np.testing.assert_allclose(oracle.run(SOLVERS[name], X[1:2], sigmas, GAUSSIAN).x, whole[1:2], rtol=1e-5)


def test_without_noise_the_stochastic_form_is_the_other():
    noisy, still = samplers.dpm_solver_pp(2, eta=1e-9), samplers.dpm_solver_pp(2)
    sigmas = noise.levels(noise.karras(0.1, 3.0), 6)
    ends = [oracle.run(sampler, X, sigmas, GAUSSIAN).x for sampler in (noisy, still)]
    np.testing.assert_allclose(*ends, atol=1e-3)


@pytest.mark.parametrize("gap", [1e-5, 1e-6, 6e-8])
@pytest.mark.parametrize("name", SOLVERS)
def test_levels_that_nearly_touch_do_no_harm(name, gap):
    """A polynomial through them would magnify rounding by the square of the step over the gap."""
    even = jnp.array([1.0, 0.5, 0.25, 0.1, 0.0])
    crowded = jnp.concatenate([1 - gap * jnp.arange(4), even[1:]])
    ends = [oracle.run(SOLVERS[name], X, grid, GAUSSIAN).x for grid in (even, crowded)]
    np.testing.assert_allclose(*ends, atol=0.15)


def test_the_gradient_by_levels_in_powers_of_two_is_finite():
    run = lambda sigmas: oracle.run(samplers.unipc(3), X, sigmas, GAUSSIAN).x.sum()
    assert np.isfinite(jax.grad(run)(jnp.array([40.0, 5.0, 1.0, 0.0]))).all()


WRONG = {
    "order": (lambda: samplers.dpm_solver_pp(4), r"order = 4 must be in 1\.\.3"),
    "lms": (lambda: samplers.lms(5), r"order = 5 must be in 1\.\.4"),
    "deis": (lambda: samplers.deis(0), r"order = 0 must be in 1\.\.3"),
    "noise": (lambda: samplers.dpm_solver_pp(2, eta=-1.0), "need eta >= 0"),
    "variant": (lambda: samplers.unipc(2, variant="bh3"), "variant = 'bh3' must be 'bh1' or 'bh2'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_exist_is_refused(name):
    make, said = WRONG[name]
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize(
    "sampler", [samplers.dpm_solver_pp(3), samplers.unipc(3), samplers.deis(3), samplers.lms(4)]
)
def test_fewer_levels_than_the_order_are_refused(sampler):
    """In every composition too; as many levels as the order are enough."""
    score = lambda x, sigma: -x / (1 + sigma[:, None] ** 2)
    sigmas = noise.levels(noise.karras(0.1, 10.0), sampler.order - 1)
    few = f"{sampler.order - 1} levels are too few for a sampler of order {sampler.order}; give it a lower"
    for composed in (
        sampler,
        samplers.chain(samplers.euler(), sampler),
        samplers.churn(1.0, sampler, steps=3),
    ):
        with pytest.raises(ValueError, match=few):
            samplers.sample(jax.random.key(0), jnp.ones((2, 1)), sigmas, score, composed)
    enough = noise.levels(noise.karras(0.1, 10.0), sampler.order)
    x, _ = samplers.sample(jax.random.key(0), jnp.ones((2, 1)), enough, score, sampler)
    assert jnp.isfinite(x).all()

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import mixtures, noise, samplers

MIXTURE = mixtures.isotropic([0.5, 0.3, 0.2], [[1.0, 0.5], [-1.2, 0.8], [0.3, -1.4]], 0.3)
SCORE = functools.partial(mixtures.score, MIXTURE)
GIVEN = noise.levels(noise.karras(0.01, 20.0), 6)


@functools.cache
def found(solver):
    x = samplers.prior(jax.random.key(0), (100, 2), GIVEN[0])
    return samplers.optimised(x, GIVEN, SCORE, getattr(samplers, solver)(), steps=100)


@pytest.mark.parametrize("solver", ["dpm_solver_pp", "deis"])
def test_levels_are_better_on_other_points(solver):
    x = samplers.prior(jax.random.key(1), (1000, 2), GIVEN[0])
    run = jax.jit(
        lambda sigmas, sampler: samplers.sample(jax.random.key(2), x, sigmas, SCORE, sampler)[0],
        static_argnums=1,
    )
    truth = run(noise.levels(noise.karras(0.005, 20.0), 300), samplers.heun())
    error = lambda sigmas: float(jnp.sqrt(jnp.mean((run(sigmas, getattr(samplers, solver)()) - truth) ** 2)))
    assert error(found(solver)) < 0.6 * error(GIVEN)


def test_levels_are_a_grid_between_the_ends_that_were_given():
    sigmas = np.asarray(found("deis"))
    assert sigmas.shape == GIVEN.shape
    assert (sigmas[0], sigmas[-1]) == (GIVEN[0], 0)
    assert (np.diff(sigmas) < 0).all()
    assert sigmas[-2] >= 0.999 * GIVEN[-2]


def test_levels_that_end_above_zero_are_refused():
    x = samplers.prior(jax.random.key(0), (10, 2), GIVEN[0])
    with pytest.raises(ValueError, match="sigmas must end in zero"):
        samplers.optimised(x, GIVEN[:-1], SCORE, samplers.deis())


def test_samples_that_are_not_finite_are_refused():
    broken = lambda x, sigma: jnp.full_like(x, jnp.nan)
    sigmas = noise.levels(noise.karras(0.01, 10.0), 4)
    with pytest.raises(ValueError, match="not finite along the levels that were given"):
        samplers.optimised(jnp.ones((3, 2)), sigmas, broken, samplers.euler(), steps=2, converged=4)

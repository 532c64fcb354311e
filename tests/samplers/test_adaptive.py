import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import mixtures, samplers

MIXTURE = mixtures.isotropic([0.5, 0.3, 0.2], [[1.0, 0.5], [-1.2, 0.8], [0.3, -1.4]], 0.3)
SCORE = functools.partial(mixtures.score, MIXTURE)
RANGE = {"sigma_max": 20.0, "sigma_min": 0.01}


def start(n=16, dtype=None):
    return 20 * jax.random.normal(jax.random.key(0), (n, 2), dtype)


def test_the_error_is_of_the_size_of_the_tolerance():
    with jax.enable_x64(True):
        x = start()
        exact = samplers.adaptive(x, SCORE, **RANGE, rtol=1e-9, atol=1e-9)
        ends = [samplers.adaptive(x, SCORE, **RANGE, rtol=tol, atol=tol) for tol in (1e-3, 1e-5)]
    errors = [float(jnp.sqrt(jnp.mean((end.x - exact.x) ** 2))) for end in ends]
    assert errors[0] < 20 * 1e-3  # errors of a step grow where modes part
    assert errors[1] < 20 * 1e-5
    assert (ends[0].evaluations < ends[1].evaluations).all()


def test_its_limit_is_the_probability_flow():
    gaussian = lambda x, sigma: -x / (0.49 + sigma**2)[:, None]
    with jax.enable_x64(True):
        x = start()
        end = samplers.adaptive(x, gaussian, **RANGE, rtol=1e-8, atol=1e-8).x
        there = x * np.sqrt((0.49 + 0.01**2) / (0.49 + 20.0**2))
    np.testing.assert_allclose(end, there + 0.01**2 * gaussian(there, jnp.full(16, 0.01)), rtol=1e-6)


def test_a_row_does_not_depend_on_the_others():
    """In float64: rounding alone makes rows differ, and an outlier has steps of its own."""
    with jax.enable_x64(True):
        x = start().at[1].set(1e4)
        whole = samplers.adaptive(x, SCORE, **RANGE)
        alone = samplers.adaptive(x[:1], SCORE, **RANGE)
    np.testing.assert_allclose(whole.x[:1], alone.x, rtol=1e-9)
    assert whole.evaluations[0] == alone.evaluations[0]
    assert len(set(whole.evaluations.tolist())) > 1


def test_the_evaluations_are_counted():
    calls = []

    def score(x, sigma):
        jax.debug.callback(lambda: calls.append(1))
        return SCORE(x, sigma)

    for tolerance in (1e-1, 1e-3):
        calls.clear()
        found = samplers.adaptive(start(1), score, **RANGE, rtol=tolerance, atol=tolerance)
        jax.block_until_ready(found.x)
        jax.effects_barrier()
        assert len(calls) == found.evaluations[0]


def test_a_condition_of_the_whole_batch_is_seen_by_its_row():
    centres = jnp.array([[1.0, -1.0], [5.0, 2.0], [-3.0, 0.0]])
    score = lambda x, sigma: (centres - x) / (0.01 + sigma**2)[:, None]
    end = jax.jit(lambda x: samplers.adaptive(x, score, **RANGE, rtol=1e-4, atol=1e-4).x)(start(3))
    np.testing.assert_allclose(end, centres, atol=0.5)


def test_parameters_and_classes_may_be_arguments_of_jit():
    """The solver's loops close over them."""
    centres = jnp.array([[1.0, -1.0], [5.0, 2.0]])

    def run(centres, classes, x):
        score = lambda x, sigma: (centres[classes] - x) / (0.01 + sigma**2)[:, None]
        return samplers.adaptive(x, score, **RANGE, rtol=1e-4, atol=1e-4).x

    classes = jnp.array([1, 0, 1])
    np.testing.assert_allclose(jax.jit(run)(centres, classes, start(3)), centres[classes], atol=0.5)


def test_a_row_that_does_not_arrive_is_nan():
    found = samplers.adaptive(start(), SCORE, **RANGE, max_steps=3)
    assert jnp.isnan(found.x).all()
    broken = lambda x, sigma: jnp.where(jnp.arange(16)[:, None] == 2, jnp.nan, SCORE(x, sigma))
    found = samplers.adaptive(start(), broken, **RANGE, max_steps=100)
    np.testing.assert_array_equal(np.isnan(found.x).all(axis=1), np.arange(16) == 2)


def test_the_type_is_that_of_x():
    assert samplers.adaptive(start(dtype=jnp.bfloat16), SCORE, **RANGE).x.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"sigma_min": 0.0}, "need 0 < sigma_min < sigma_max"),
        ({"sigma_max": float("inf")}, "need 0 < sigma_min < sigma_max"),
        ({"rtol": float("nan")}, "need positive tolerances"),
        ({"atol": -1.0}, "need positive tolerances"),
        (
            {"rtol": 1e-8, "atol": 1e-9},
            "tolerances 1e-08 and 1e-09 are below the resolution of float32, 1e-07",
        ),
    ],
)
def test_what_cannot_be_solved_is_refused(wrong, reason):
    with pytest.raises(ValueError, match=reason):
        samplers.adaptive(start(), SCORE, **RANGE | wrong)


def test_a_start_that_is_not_finite_is_refused_at_once():
    with pytest.raises(ValueError, match="x is not finite in row 5"):
        samplers.adaptive(start().at[5, 1].set(jnp.nan), SCORE, **RANGE)

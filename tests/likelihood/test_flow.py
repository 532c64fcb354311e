"""Log densities along the probability flow, on mixtures whose density is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import likelihood, mixtures, noise, samplers, sharding

RANGE = {"sigma_min": 0.01, "sigma_max": 80.0}


def mixture_in(dimensions):
    rng = np.random.default_rng(dimensions)
    means = 1.5 * rng.standard_normal((4, dimensions))
    return mixtures.isotropic(np.array([0.4, 0.3, 0.2, 0.1]), means, np.array([0.2, 0.3, 0.4, 0.5]))


@functools.cache
def case(dimensions, n):
    """The score of a mixture, draws of it at sigma_min, their log densities, and the moments."""
    mixture = mixture_in(dimensions)
    x = mixtures.draw(jax.random.key(0), mixture, n, sigma=0.01)
    mean, covariance = mixtures.moments(mixture)
    variances, axes = np.linalg.eigh(np.asarray(covariance))
    moments = samplers.Moments(mean, jnp.asarray(variances), jnp.asarray(axes))
    return functools.partial(mixtures.score, mixture), x, mixtures.log_density(mixture, x, 0.01), moments


def estimate(score, x, **given):
    """Jitted, with a key of its own."""
    key = jax.random.key(1)
    return jax.jit(lambda key, x: likelihood.log_density(score, key, x, **RANGE | given))(key, x)


@pytest.mark.parametrize("dimensions", [2, 16, 64])
def test_with_the_exact_trace_it_is_the_density(dimensions):
    score, x, truth, moments = case(dimensions, 50)
    found = estimate(score, x, probes=None, moments=moments)
    # The tolerance of a step is 1e-5 nats and 1e-5 of the value; 30 steps, some of them where modes part.
    np.testing.assert_allclose(found.value, truth, atol=0.01)
    assert abs(float(jnp.mean(found.value - truth))) < 1e-3
    np.testing.assert_array_equal(found.standard_error, 0)


def test_with_probes_the_truth_is_within_their_standard_errors():
    """32 of 64 dimensions; the mean of 100 examples is within three of its own standard errors."""
    score, x, truth, moments = case(64, 100)
    found = estimate(score, x, probes=32, moments=moments)
    away = (found.value - truth) / found.standard_error
    # Student's t with 31 degrees of freedom is beyond 3 in 0.5 % of cases; these are products of signs with
    # longer tails.
    assert float(jnp.mean(jnp.abs(away) > 3)) <= 0.03
    together = jnp.sqrt(jnp.mean(found.standard_error**2) / 100)
    assert abs(jnp.mean(found.value - truth)) < 3 * together


def test_as_many_probes_as_dimensions_are_the_exact_trace():
    score, x, _, moments = case(2, 50)
    exact = estimate(score, x, probes=None, moments=moments)
    np.testing.assert_array_equal(estimate(score, x, probes=2, moments=moments).value, exact.value)


def test_probes_are_averaged():
    """A linear field: div f = 6 times the factor of the Gaussian, whatever the number of probes."""
    variances = jnp.array([1.0, 2.0, 3.0, 0.5])
    score = lambda x, sigma: -x / (variances[None] + sigma[:, None] ** 2)
    x = noise.normal(jax.random.key(0), (3, 4)) * jnp.sqrt(variances)[None]
    scale = variances + 0.01**2
    truth = -jnp.sum(x**2 / scale[None] + jnp.log(2 * jnp.pi * scale)[None], axis=1) / 2
    moments = samplers.Moments(jnp.zeros(4), variances, jnp.eye(4))
    for probes in (1, 3, None):
        found = estimate(score, x, probes=probes, moments=moments)
        # The Jacobian is diagonal, and v' J v = tr J for signs v.
        np.testing.assert_allclose(found.value, truth, atol=2e-3)


def test_one_probe_has_no_standard_error():
    score, x, _, _ = case(16, 50)
    assert jnp.isnan(estimate(score, x[:4], probes=1, rtol=1e-3, atol=1e-3).standard_error).all()


def test_without_moments_the_start_is_off_by_what_they_say():
    """N(0, sigma^2) in place of N(mean, C + sigma^2): D var / (2 sigma_max^2) nats, and less."""
    score, x, truth, _ = case(2, 50)
    found = estimate(score, x, probes=None)
    np.testing.assert_allclose(found.value, truth, atol=0.1)


def test_a_row_does_not_depend_on_the_others():
    """An outlier at 1,000 has steps of its own; keys for the rows are those of the whole batch."""
    score, x, _, moments = case(16, 50)
    x = x[:3].at[1].set(1e3)
    given = {"probes": 2, "moments": moments, "rtol": 1e-3, "atol": 1e-3}
    whole, alone = estimate(score, x, **given), estimate(score, x[:1], **given)
    np.testing.assert_allclose(whole.value[:1], alone.value, rtol=1e-5, atol=1e-4)
    assert whole.evaluations[0] == alone.evaluations[0]
    again = estimate(score, x, **given)
    np.testing.assert_array_equal(again.value, whole.value)


def test_examples_split_over_devices_have_the_same_densities():
    score, x, _, moments = case(16, 50)
    split = sharding.batched(sharding.mesh())
    given = {"probes": 2, "moments": moments}
    whole, parts = estimate(score, x[:16], **given), estimate(score, jax.device_put(x[:16], split), **given)
    # Sums in another order round differently, and may accept a step that the others reject.
    np.testing.assert_allclose(parts.value, whole.value, atol=0.02)
    assert parts.value.sharding.is_equivalent_to(split, 1)


def test_a_score_that_is_not_finite_ends_as_nan_after_few_steps():
    score, x, _, _ = case(2, 50)
    calls = []

    def broken(x, sigma):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.where((sigma > 0.5)[:, None] & (jnp.arange(4) == 2)[:, None], jnp.nan, score(x, sigma))

    found = estimate(broken, x[:4], probes=None, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(np.isnan(found.value), [False, False, True, False])
    jax.effects_barrier()
    assert len(calls) < 1500


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"sigma_min": 0.0}, "need 0 < sigma_min < sigma_max, not 0.0 and 80.0"),
        ({"probes": 0}, "probes = 0 must be at least 1, or None"),
        ({"rtol": 1e-9, "atol": 1e-9}, "below the resolution of float32, 1e-07: choose larger ones, or x in"),
        ({"rtol": -1.0}, "need positive tolerances"),
        ({"max_steps": 0}, "max_steps = 0"),
        ({"moments": samplers.Moments(jnp.zeros(3), jnp.ones(()))}, r"the moments are those of \(3,\)"),
    ],
)
def test_what_cannot_be_is_refused(given, reason):
    score, x, _, _ = case(2, 50)
    with pytest.raises(ValueError, match=reason):
        likelihood.log_density(score, jax.random.key(0), x, **RANGE | given)


def test_numbers_without_a_density_are_refused():
    score, x, _, _ = case(2, 50)
    with pytest.raises(ValueError, match="int32, which has no density: add noise to grey values by deq"):
        likelihood.log_density(score, jax.random.key(0), x.astype(int), **RANGE)
    with pytest.raises(ValueError, match="x is not finite in row 3"):
        likelihood.log_density(score, jax.random.key(0), x.at[3, 1].set(jnp.nan), **RANGE)


# The flow as an encoder ---------------------------------------------------------------------------


def test_latents_are_normal_and_decode_to_the_examples():
    score, x, _, moments = case(16, 50)
    given = RANGE | {"moments": moments}
    z = jax.jit(lambda x: likelihood.encode(score, x, **given).x)(x)
    # 800 numbers: mean 0 +- 0.035, variance 1 +- 0.05; three of these.
    assert abs(float(z.mean())) < 0.11
    assert abs(float(z.var()) - 1) < 0.15
    back = jax.jit(lambda z: likelihood.decode(score, z, **given).x)(z)
    np.testing.assert_allclose(back, x, atol=2e-3)


def test_clean_examples_are_encoded_and_decoded():
    """Also points of a point mass, whose latents are all zero."""
    score = lambda x, sigma: (3.0 - x) / sigma[:, None] ** 2
    z = likelihood.encode(score, jnp.full((2, 1), 3.0), **RANGE)
    np.testing.assert_allclose(z.x, 3.0 / 80, atol=2e-3)  # the flow magnifies an error of 1e-7 by 8,000
    np.testing.assert_allclose(likelihood.decode(score, z.x, **RANGE).x, 3.0, atol=1e-3)


def test_between_latents_lies_an_arc():
    first, second = noise.normal(jax.random.key(0), (5, 8)), noise.normal(jax.random.key(1), (5, 8))
    np.testing.assert_allclose(likelihood.interpolate(first, second, 0.0), first, atol=1e-6)
    np.testing.assert_allclose(likelihood.interpolate(first, second, jnp.ones(5)), second, atol=1e-6)
    unit = lambda z: z / jnp.linalg.norm(z, axis=1, keepdims=True)
    middle = likelihood.interpolate(unit(first), unit(second), 0.5)
    np.testing.assert_allclose(jnp.linalg.norm(middle, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(middle, unit(unit(first) + unit(second)), atol=1e-5)
    np.testing.assert_allclose(likelihood.interpolate(first, first, 0.3), first, rtol=1e-5)
    path = likelihood.interpolate(first[:1], second[:1], jnp.linspace(0, 1, 4))
    np.testing.assert_allclose(path[jnp.array([0, 3])], jnp.stack([first[0], second[0]]), atol=1e-5)
    with pytest.raises(ValueError, match=r"latents of shapes \(5, 8\) and \(2, 8\).* do not fit"):
        likelihood.interpolate(first, second[:2], 0.5)


@pytest.mark.parametrize("dimensions", [1, 2, 8])
def test_between_normals_lie_latents_of_the_same_size(dimensions):
    """In few dimensions too, where two normals may be opposite."""
    pair = noise.normal(jax.random.key(2), (2, 20_000, dimensions))
    middle = likelihood.interpolate(*pair, 0.5)
    square = jnp.sum(middle**2, axis=1)
    # The mean of |z|^2 of 20,000: its standard error is below sqrt(2 D / 20,000).
    assert abs(float(square.mean()) - dimensions) < 4 * np.sqrt(2 * dimensions / 20_000)
    assert float(square.max()) <= float(jnp.sum(pair**2, axis=2).max())

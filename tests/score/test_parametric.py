import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import noise, score

SIGMA_DATA = 0.5
SIGMA = jnp.array([1e-3, 0.1, 1.0, 80.0])
WIDE = np.asarray(SIGMA, float)[:, None]
X = jnp.array([[0.3, -1.2], [2.0, 0.1], [-0.7, 0.4], [50.0, -30.0]])


def network(params, x, c_noise):
    return params * jnp.sin(x + c_noise[:, None])


def test_preconditioned_is_the_score_of_edms_denoiser():
    """Table 1 of Karras et al. 2022 in NumPy and float64, around the same network."""
    x, total = np.asarray(X, float), WIDE**2 + SIGMA_DATA**2
    c_skip, c_out = SIGMA_DATA**2 / total, WIDE * SIGMA_DATA / np.sqrt(total)
    denoised = c_skip * x + c_out * 2 * np.sin(x / np.sqrt(total) + np.log(WIDE) / 4)
    # float32 against float64. (D - x) / sigma^2 evaluated in float32 would be off by 6e-8 / sigma^2
    # = 6e-2 at the first sigma: that this holds there is why the library does not compute it so.
    ours = score.preconditioned(network, SIGMA_DATA)(2.0, X, SIGMA)
    np.testing.assert_allclose(ours, (denoised - x) / WIDE**2, rtol=2e-5, atol=1e-7)


def test_preconditioned_hands_on_unit_variance_and_ln_sigma():
    """A network that returns zeros gives the score of a Gaussian."""
    seen = {}

    def spy(params, x, c_noise):
        seen.update(x=x, c_noise=c_noise)
        return jnp.zeros_like(x)

    silent = score.preconditioned(spy, SIGMA_DATA)((), X, SIGMA)
    np.testing.assert_allclose(silent, -X / (SIGMA**2 + SIGMA_DATA**2)[:, None], rtol=1e-5)
    np.testing.assert_allclose(seen["c_noise"], np.log(SIGMA) / 4, rtol=1e-6)
    np.testing.assert_allclose(seen["x"], X / np.sqrt(SIGMA**2 + SIGMA_DATA**2)[:, None], rtol=1e-6)


def test_preconditioned_combines_in_float32():
    """This holds for networks that return other types."""
    half = lambda params, x, c_noise: network(params, x, c_noise).astype(jnp.bfloat16)
    ours = score.preconditioned(half, SIGMA_DATA)(2.0, X, SIGMA)
    assert ours.dtype == jnp.float32
    # bfloat16 has 8 bits: an error of 2^-9 of the network's part, |F| <= 2.
    part = 2 * SIGMA_DATA / (SIGMA * jnp.sqrt(SIGMA**2 + SIGMA_DATA**2))
    full = score.preconditioned(network, SIGMA_DATA)(2.0, X, SIGMA)
    assert jnp.all(jnp.abs(ours - full) <= 2**-8 * part[:, None])


@pytest.mark.parametrize("make", [score.preconditioned, score.preconditioned_log_density])
@pytest.mark.parametrize("sigma_data", [0.0, -1.0])
def test_a_scale_that_is_not_positive_is_refused(make, sigma_data):
    with pytest.raises(ValueError, match="sigma_data"):
        make(network, sigma_data)


def test_over_sigma_divides_by_sigma():
    ours = score.over_sigma(network)(2.0, X, SIGMA)
    expected = 2 * np.sin(np.asarray(X, float) + np.log(WIDE) / 4) / WIDE
    np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=1e-6)


LEVELS = jnp.array([10.0, 1.0, 0.1, 0.01])


def test_at_levels_hands_on_the_number_of_the_nearest_level():
    """The nearest level is that in ln sigma."""
    seen = []

    def spy(params, x, level):
        seen.append(level)
        return params * x

    ours = score.at_levels(spy, LEVELS)
    # Between 10 and 1 the middle is sqrt(10) = 3.16, although 5 is nearer to 1 than to 10; beyond the
    # ends it is the last.
    between = jnp.array([50.0, 5.0, 3.3, 3.0, 0.32, 0.3, 0.03, 1e-4])
    x = jnp.arange(16.0).reshape(8, 2)
    out = ours(3.0, x, between)
    assert jnp.issubdtype(seen[0].dtype, jnp.integer)
    np.testing.assert_array_equal(seen[0], [0, 0, 0, 1, 1, 2, 3, 3])
    np.testing.assert_array_equal(out, 3 * x)  # the score itself, not divided by anything
    ours(3.0, x[:4], LEVELS)
    np.testing.assert_array_equal(seen[1], [0, 1, 2, 3])


def test_at_levels_knows_each_of_many_levels_by_its_own_sigma():
    sigmas = noise.levels(noise.geometric(0.01, 348.0), 2311)[:-1]
    number = score.at_levels(lambda params, x, level: level[:, None] + 0 * x, sigmas)
    found = jax.jit(number)((), jnp.zeros((2311, 1)), sigmas)
    np.testing.assert_array_equal(found[:, 0], np.arange(2311))


def test_at_levels_returns_the_type_of_x():
    half = lambda params, x, level: x.astype(jnp.bfloat16)
    assert score.at_levels(half, LEVELS)((), X, SIGMA).dtype == jnp.float32


def test_scores_of_images_broadcast_over_the_whole_event():
    images = noise.normal(jax.random.key(0), (4, 2, 2, 1))
    flat = images.reshape(4, 4)
    net = lambda params, x, c_noise: jnp.sin(x)
    for wrapped in (score.preconditioned(net, SIGMA_DATA), score.over_sigma(net)):
        as_images, as_vectors = wrapped((), images, SIGMA), wrapped((), flat, SIGMA)
        np.testing.assert_allclose(as_images.reshape(4, 4), as_vectors, rtol=1e-6)


def test_preconditioned_log_density_is_the_formula():
    """Its gradient is a score."""
    log_density = score.preconditioned_log_density(network, SIGMA_DATA)
    x, s = np.asarray(X, float), np.asarray(SIGMA, float)
    v = (s**2 + SIGMA_DATA**2)[:, None]
    scaled = x / np.sqrt(v)
    inner = np.sum(scaled * 2.0 * np.sin(scaled + np.log(s)[:, None] / 4), axis=1)
    expected = -np.sum(x**2, axis=1) / (2 * v[:, 0]) + SIGMA_DATA / s * inner
    np.testing.assert_allclose(log_density(2.0, X, SIGMA), expected, rtol=1e-4)
    # With a silent network it is the Gaussian that `preconditioned` starts at.
    silent = score.preconditioned_log_density(lambda params, x, c_noise: jnp.zeros_like(x), SIGMA_DATA)
    gradient = score.from_log_density(functools.partial(silent, ()))(X, SIGMA)
    np.testing.assert_allclose(gradient, -x / v, rtol=1e-5)


@pytest.mark.parametrize("make", [lambda net: score.preconditioned(net, 0.5), score.over_sigma])
def test_a_condition_reaches_the_network_and_none_does_not(make):
    """So that a network without conditions need not take any."""
    told = []

    def net(params, x, c_noise, *condition):
        told.append(condition)
        return jnp.zeros_like(x)

    x, sigma, labels = jnp.ones((3, 2)), jnp.ones(3), jnp.arange(3)
    conditional = make(net)
    unbound = conditional(None, x, sigma)
    np.testing.assert_array_equal(functools.partial(conditional, None, condition=labels)(x, sigma), unbound)
    assert told[0] == ()
    assert told[1][0] is labels


def test_the_ve_network_gets_half_the_noise_level():
    net = lambda params, x, c_noise: params * x * jnp.exp(c_noise)[:, None]
    x, sigma = jnp.ones((2, 3)), jnp.array([0.5, 4.0])
    found = score.preconditioned_ve(net)(2.0, x, sigma)
    np.testing.assert_allclose(found, np.ones((2, 3)), rtol=1e-6)  # 2 x (sigma / 2) / sigma


def test_what_the_vp_network_predicts_must_be_known():
    with pytest.raises(ValueError, match="'score' is not known; use noise, velocity, clean"):
        score.preconditioned_vp(lambda *given: given, jnp.log, "score")


def test_the_flow_network_predicts_the_velocity():
    net = lambda params, x, t: params * jnp.sin(x + t[:, None])
    velocity = lambda x, t: net(2.0, x, t)
    sigma = jnp.array([1e-3, 0.1, 1.0, 80.0])
    ours = score.preconditioned_flow(net)(2.0, X, sigma)
    np.testing.assert_allclose(ours, score.from_velocity(velocity)(X, sigma), rtol=1e-6)

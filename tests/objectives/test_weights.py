import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import noise, objectives, score
from tests.draws import assert_mean


@pytest.mark.parametrize(
    ("weight", "of_denoiser_error"),
    [
        (objectives.one, lambda sigma: 1 / sigma**4),
        (objectives.sigma_squared, lambda sigma: 1 / sigma**2),
        (objectives.edm(0.5), lambda sigma: (sigma**2 + 0.5**2) / (sigma * 0.5) ** 2),
        (objectives.min_snr(5.0), lambda sigma: np.minimum(1 / sigma**2, 5)),
        (objectives.soft_min_snr(4.0), lambda sigma: 1 / (sigma**2 + 0.5**2)),
        (objectives.sigmoid(2.0), lambda sigma: 1 / sigma**2 / (1 + np.exp(-2) / sigma**2)),
    ],
)
def test_weights_are_those_of_the_papers_on_the_denoisers_error(weight, of_denoiser_error):
    # For a denoiser D that is constant, sigma s + n = (D - x0) / sigma: the noise drops out.
    clean, sigma = jnp.array([[1.0, -2.0], [0.5, 0.5], [3.0, 0.0]]), jnp.array([0.05, 0.7, 30.0])
    guess = jnp.array([[0.2, 0.1]])
    constant = score.from_denoiser(lambda x, sigma: jnp.broadcast_to(guess, x.shape))
    loss = objectives.noise_conditional(constant, jax.random.key(0), clean, sigma, weight=weight)
    expected = of_denoiser_error(np.asarray(sigma, float)) * np.sum((clean - guess) ** 2, axis=1) / 2
    # Here, too, (D - x) cancels against n: 6e-8 sigma / |D - x0| at the largest sigma is 1e-6.
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


# One network, three losses --------------------------------------------------------------------------

CLEAN = noise.normal(jax.random.key(1), (4, 3))
TIMES = jnp.array([0.02, 0.4, 0.8, 0.99])


def network(params, x, c_noise):
    return params * jnp.sin(x + c_noise[:, None])


def test_flow_matching_is_the_squared_error_of_the_velocity():
    """1/2 |F(x_t, t) - (n - x0)|^2 at x_t = (1 - t) x0 + t n, written down as it is in the paper."""
    key, t = jax.random.key(2), TIMES[:, None]
    n = noise.normal(key, CLEAN.shape)
    error = network(0.7, (1 - t) * CLEAN + t * n, TIMES) - (n - CLEAN)
    velocity = functools.partial(score.preconditioned_flow(network), 0.7)
    sigma = TIMES / (1 - TIMES)
    ours = objectives.noise_conditional(velocity, key, CLEAN, sigma, weight=objectives.flow_matching)
    np.testing.assert_allclose(ours, jnp.sum(error**2, axis=1) / 2, rtol=1e-4)


def test_edm_of_unit_data_is_the_error_of_a_v_prediction():
    """1/2 |F(x', sigma) - (alpha n - beta x0)|^2 at x' = alpha x0 + beta n, alpha^2 + beta^2 = 1."""
    key, sigma = jax.random.key(2), TIMES / (1 - TIMES)
    alpha = 1 / jnp.sqrt(1 + sigma**2)[:, None]
    beta, n = sigma[:, None] * alpha, noise.normal(key, CLEAN.shape)
    error = network(0.7, alpha * CLEAN + beta * n, sigma) - (alpha * n - beta * CLEAN)
    predicted = score.from_v_prediction(functools.partial(network, 0.7))
    ours = objectives.noise_conditional(predicted, key, CLEAN, sigma, weight=objectives.edm(1.0))
    np.testing.assert_allclose(ours, jnp.sum(error**2, axis=1) / 2, rtol=1e-4)


FORMS = {
    "noise": (lambda f: score.from_noise_prediction(f), objectives.sigma_squared),
    "denoiser": (lambda f: score.from_denoiser(f), objectives.edm(0.6)),
    "velocity": (lambda f: score.from_velocity(f), objectives.flow_matching),
    "v-prediction": (lambda f: score.from_v_prediction(f), objectives.edm(1.0)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_prediction_has_the_same_optimum_on_a_gaussian(form):
    """The best linear prediction c x of each form, at each level: its score is -x / (s0^2 + sigma^2)."""
    (make, weight), s0, sigma = FORMS[form], 0.6, jnp.array([0.05, 0.6, 5.0])

    def losses(c):
        """The mean loss of 20,000 examples at each level; c does not change the noise."""
        linear = make(lambda x, level: jnp.repeat(c, 20_000)[:, None] * x)
        x0 = s0 * noise.normal(jax.random.key(5), (60_000, 1))
        loss = objectives.noise_conditional(
            linear, jax.random.key(6), x0, jnp.repeat(sigma, 20_000), weight=weight
        )
        return loss.reshape(3, -1).mean(axis=1)

    # The loss is a parabola in c, so one Newton step from anywhere is its minimum.
    slope = jax.jacfwd(losses)
    zero = jnp.zeros(3)
    best = zero - jnp.diag(slope(zero)) / jnp.diag(jax.jacfwd(slope)(zero).diagonal(axis1=0, axis2=1))
    x = jnp.ones((3, 1))
    found = make(lambda x, level: best[:, None] * x)(x, sigma)
    # The standard error of a regression on 20,000 examples: the score's is 1 / (sigma sqrt(20,000)) relative
    # to the spread of x; four of them.
    reach = 4 / np.asarray(sigma) / np.sqrt(20_000) / np.sqrt(s0**2 + np.asarray(sigma) ** 2)
    assert (np.abs(found[:, 0] + 1 / (s0**2 + sigma**2)) < reach).all()


def test_times_near_the_end_have_finite_losses_and_slopes():
    """At t = 1 - 1e-6 and 1e-6, for each form: the weight has its limit."""
    sigma = jnp.array([1e-6, 1e6])
    for make, weight in FORMS.values():
        loss = lambda c, make=make, weight=weight: objectives.noise_conditional(
            make(lambda x, level: c * x), jax.random.key(0), CLEAN[:2], sigma, weight=weight
        ).sum()
        assert jnp.isfinite(jnp.stack(jax.value_and_grad(loss)(0.3))).all()


@pytest.mark.parametrize(
    ("weight", "name"),
    [(objectives.edm, "sigma_data"), (objectives.min_snr, "gamma"), (objectives.soft_min_snr, "gamma")],
)
def test_a_scale_that_is_not_positive_is_refused(weight, name):
    with pytest.raises(ValueError, match=f"{name} = 0.0 must be positive"):
        weight(0.0)


def test_the_uncertainty_is_learnt_where_its_slope_is_zero():
    """At e^u = 2 loss / size the slope in u is 0, and the slope in the loss is size / (2 loss)."""
    loss, size = jnp.array([0.5, 3.0, 40.0]), 6
    u = jnp.log(2 * loss / size)
    total = lambda loss, u: objectives.uncertain(loss, u, size).sum()
    of_loss, of_u = jax.grad(total, argnums=(0, 1))(loss, u)
    np.testing.assert_allclose(of_u, 0.0, atol=1e-6)
    np.testing.assert_allclose(of_loss, size / (2 * loss), rtol=1e-6)
    assert total(loss, u) < min(total(loss, u + 0.1), total(loss, u - 0.1))


# The likelihood -----------------------------------------------------------------------------------

LOW, HIGH = 0.1, 10.0
SCHEDULES = {
    "geometric": noise.geometric(LOW, HIGH),
    "karras": noise.karras(LOW, HIGH),
    "uniform": lambda u: LOW + (HIGH - LOW) * u,
}


def divergence(a, b, sigma):
    """KL(N(0, a^2 + sigma^2) | N(0, b^2 + sigma^2)) of one dimension, in nats."""
    ratio = (a**2 + sigma**2) / (b**2 + sigma**2)
    return (ratio - 1 - math.log(ratio)) / 2


@functools.cache
def likelihood_losses(name):
    """The weighted losses at a wrong Gaussian score, of width 2, and at the right one, of width 1."""
    n = 200_000
    x = noise.normal(jax.random.key(0), (n, 1))
    u = noise.stratified(jax.random.key(1), n)
    sigma, weight = SCHEDULES[name](u), objectives.likelihood(noise.density(SCHEDULES[name], u))
    model = lambda c: lambda x, sigma: -x / (c**2 + sigma[:, None] ** 2)
    losses = functools.partial(objectives.noise_conditional, weight=weight)
    return [np.asarray(losses(model(c), jax.random.key(2), x, sigma), float) for c in (2.0, 1.0)]


@pytest.mark.parametrize("name", SCHEDULES)
def test_likelihood_weighting_is_the_divergence(name):
    """This holds whatever sigma is drawn from."""
    # Song, Durkan et al. 2021, theorem 1, is an equality for scores of a diffused density.
    wrong, right = likelihood_losses(name)
    expected = divergence(1.0, 2.0, LOW) - divergence(1.0, 2.0, HIGH)
    assert_mean(wrong - right, expected)
    assert (wrong - right).std() / math.sqrt(len(wrong)) < 0.03 * expected


def test_sigma_uniform_in_its_logarithm_has_the_least_variance():
    spread = {name: likelihood_losses(name)[0].std() for name in SCHEDULES}
    assert spread["geometric"] < 0.95 * min(spread["uniform"], spread["karras"])


def test_likelihood_weighting_of_uniform_ln_sigma_is_its_square():
    u = jnp.linspace(0.1, 0.9, 5)
    schedule = noise.geometric(LOW, HIGH)
    weight = objectives.likelihood(noise.density(schedule, u))(schedule(u))
    np.testing.assert_allclose(weight, 2 * schedule(u) ** 2 * math.log(HIGH / LOW), rtol=1e-5)

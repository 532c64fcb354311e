"""Conditions are dropped row by row, and guided scores are those of their closed forms."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxscore import guidance, networks, noise, objectives, samplers, trainer
from jaxscore.networks import MLP
from jaxscore.score import preconditioned, vp
from tests.grids import rest

key = lambda number=0: jax.random.key(number)
MEANS, STD = jnp.array([[2.0, 1.0], [-2.0, 0.0]]), 0.5


def conditional(x, sigma, label):
    """The score of N(mean of the label, STD^2 I) at sigma."""
    return (MEANS[label] - x) / (STD**2 + sigma**2)[:, None]


def unconditional(x, sigma):
    """The score of the mixture of both with equal weights, from its log density by hand."""
    v = (STD**2 + sigma**2)[:, None]
    logits = -jnp.sum((x[:, None] - MEANS[None]) ** 2, axis=2) / (2 * v)
    weights = jax.nn.softmax(logits, axis=1)
    return (weights @ MEANS - x) / v


# Dropping -----------------------------------------------------------------------------------------


def test_about_a_tenth_of_the_labels_is_dropped_row_by_row():
    labels = jnp.arange(1000) % 10
    dropped = guidance.drop(key(), labels, none=10, probability=0.1)
    null = np.asarray(dropped == 10)
    assert 70 <= null.sum() <= 130  # 100, and three standard deviations of 9.5
    assert len(set(np.flatnonzero(null) // 100)) == 10  # scattered over the batch
    np.testing.assert_array_equal(dropped[~null], labels[~null])
    assert dropped.dtype == labels.dtype


def test_none_or_all_are_dropped():
    dropped = [guidance.drop(key(), jnp.zeros(50, int), none=3, probability=p) for p in (0.0, 1.0)]
    np.testing.assert_array_equal(dropped, [[0] * 50, [3] * 50])


def test_all_leaves_of_a_row_are_dropped_together():
    condition = {"label": jnp.zeros(64, int), "y": jnp.ones((64, 3)), "low": jnp.ones((64, 4, 4, 1))}
    none = {"label": 7, "y": 0.0, "low": -1.0}
    found = guidance.drop(key(), condition, none=none, probability=0.5)
    gone = np.asarray(found["label"] == 7)
    assert 10 < gone.sum() < 54
    np.testing.assert_array_equal(found["y"], np.where(gone[:, None], 0, np.ones((64, 3))))
    np.testing.assert_array_equal(found["low"][:, 0, 0, 0], np.where(gone, -1, 1))


def test_a_row_is_dropped_by_its_own_key():
    labels = jnp.zeros(32, int)
    whole = guidance.drop(key(), labels, none=1, probability=0.5)
    np.testing.assert_array_equal(guidance.drop(key(), labels[:8], none=1, probability=0.5), whole[:8])


def test_a_probability_beyond_1_is_refused():
    with pytest.raises(ValueError, match=r"probability = 1\.5"):
        guidance.drop(key(), jnp.zeros(3, int), none=1, probability=1.5)


# Guidance -----------------------------------------------------------------------------------------


def both(label):
    return lambda x, sigma: conditional(x, sigma, jnp.full(len(x), label)), unconditional


@pytest.mark.parametrize("scale", [0.0, 0.5, 4.0, rest(0.25), rest(0.75), rest(1.0), rest(1.5)])
def test_the_guided_score_is_its_closed_form(scale):
    """It is the gradient of w log p_c + (1 - w) log p_u at every level, for any scale."""
    x, sigma = jax.random.normal(key(), (40, 2)) * 3, jnp.geomspace(0.05, 10, 40)

    def log_density(x, sigma):
        logs = -jnp.sum((x[None] - MEANS) ** 2, axis=1) / (2 * (STD**2 + sigma**2))
        return scale * logs[0] + (1 - scale) * jax.nn.logsumexp(logs)

    guided = jax.jit(guidance.classifier_free(*both(0), scale))(x, sigma)
    expected = jax.jit(jax.vmap(jax.grad(log_density)))(x, sigma)
    size = 1 + np.abs(expected).max(axis=1, keepdims=True)
    np.testing.assert_allclose(guided / size, expected / size, atol=2e-5)  # float32


def test_at_scale_1_it_is_the_conditional_score_to_the_bit():
    x, sigma = jax.random.normal(key(), (9, 2)), jnp.full(9, 0.7)
    s_c, s_u = both(1)
    np.testing.assert_array_equal(guidance.classifier_free(s_c, s_u, 1.0)(x, sigma), s_c(x, sigma))


@pytest.mark.parametrize("event", [(5,), (16, 7), (8, 8, 4)])
def test_guidance_is_elementwise_over_the_whole_event(event):
    x, sigma = jnp.ones((3, *event)), jnp.ones(3)
    guided = guidance.classifier_free(lambda x, s: 3 * x, lambda x, s: x, 2.0, (0.5, 2.0))
    np.testing.assert_array_equal(guided(x, sigma), 5 * x)


def test_an_interval_is_open_below_and_closed_above():
    """Outside of it the score is the conditional one to the bit, and the other one is not evaluated."""
    calls = []

    def counted(x, sigma):
        jax.debug.callback(lambda sigma: calls.append(float(sigma[0])), sigma)
        return unconditional(x, sigma)

    s_c, _ = both(0)
    guided = jax.jit(guidance.classifier_free(s_c, counted, 3.0, (0.34, 1.02)))
    x = jax.random.normal(key(), (4, 2))
    for level in (80.0, 2.0, 1.02, 1.0, 0.5, 0.34, 0.1, 0.002):
        sigma = jnp.full(4, level)
        equal = bool((guided(x, sigma) == s_c(x, sigma)).all())
        assert equal == (level not in (1.02, 1.0, 0.5))
    jax.effects_barrier()
    assert sorted(calls) == pytest.approx([0.5, 1.0, 1.02])


def test_the_interval_of_a_vp_score_is_in_this_librarys_sigma():
    """sigma = sqrt(1 - a) / sqrt(a), whatever time the model counts in."""
    s_c, s_u = (vp(lambda x, sigma, k=k: -k * x) for k in (1.0, 2.0))
    guided = guidance.classifier_free(s_c, s_u, 2.0, (0.34, 1.02))
    for a, inside in ((0.4, False), (0.6, True), (0.95, False)):
        x, sigma = jnp.ones((1, 2)), jnp.full(1, ((1 - a) / a) ** 0.5)
        assert bool((guided(x, sigma) != s_c(x, sigma)).all()) == inside


def test_rows_of_one_batch_may_lie_on_both_sides_of_the_interval():
    x, sigma = jnp.ones((2, 2)), jnp.array([0.2, 1.0])
    s_c, s_u = both(0)
    found = guidance.classifier_free(s_c, s_u, 3.0, (0.34, 1.02))(x, sigma)
    everywhere = guidance.classifier_free(s_c, s_u, 3.0)(x, sigma)
    np.testing.assert_array_equal(found, jnp.stack([s_c(x, sigma)[0], everywhere[1]]))


def test_a_guided_score_is_sampled_like_any_other():
    sigmas = jnp.append(jnp.geomspace(20.0, 0.05, 24), 0.0)
    guided, moments = partial(guidance.classifier_free, *both(0)), samplers.Moments(MEANS[0], STD**2)
    generate = partial(samplers.generate, key(), (2000, 2), sigmas, sampler=samplers.heun(), moments=moments)
    draw = jax.jit(lambda scale: generate(score=guided(scale)))
    x = draw(1.0)
    # 2,000 draws of standard deviation 0.5: the mean's standard error is 0.011.
    np.testing.assert_allclose(x.mean(axis=0), MEANS[0], atol=0.05)
    np.testing.assert_allclose(x.std(axis=0), STD, rtol=0.08)
    assert all(np.isfinite(draw(scale)).all() for scale in (0.0, 0.5, 1.5))


def test_an_empty_interval_is_refused():
    with pytest.raises(ValueError, match="with low < high"):
        guidance.classifier_free(conditional, unconditional, 2.0, interval=(3.0, 1.0))


# A trained network --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    """A network that was told the classes of the two Gaussians, now and then; points, and their labels."""
    label = jnp.arange(20_000) % 2
    x = MEANS[label] + STD * noise.normal(key(), (20_000, 2))
    network = MLP(width=48, depth=1, classes=2)
    model = preconditioned(network.apply, sigma_data=float(x.std()))
    objective = objectives.over_levels(objectives.noise_conditional, noise.lognormal(-0.5, 1.2))

    def loss(params, context, batch):
        key_drop, key_noise = jax.random.split(context.key)
        label = guidance.drop(key_drop, batch["label"], none=2, probability=0.2)
        return objective(partial(model, params, condition=label), key_noise, batch["x"]).mean(), {}

    init = networks.init(network, (2,), condition=label[:1])
    options = {"steps": 800, "batch": 256, "tx": optax.adam(optax.cosine_decay_schedule(1e-2, 800))}
    state = trainer.fit(loss, init, {"x": x, "label": label}, key=key(1), **options)
    return partial(model, state.params), x[:4000], label[:4000]


# Over three seeds the errors were at most 0.5 % at scale 1 and 2.4 % at scale 2: twice as much is allowed.
# The closed forms of the two scales, and so a network that is not guided, are 11 % apart at sigma = 1 and 3.
@pytest.mark.parametrize(
    ("none", "condition", "said"),
    [
        (0.5, jnp.arange(4), "no value of a condition of int32"),
        (2, jnp.array([True, False]), "no value of a condition of bool"),
        (0.0, {"a": jnp.ones((1, 2)), "b": jnp.ones((4, 3))}, r"have \[1, 4\] rows"),
    ],
)
def test_what_would_be_cast_or_broadcast_is_refused(none, condition, said):
    with pytest.raises(ValueError, match=said):
        guidance.drop(jax.random.key(0), condition, none=none, probability=0.5)


def test_a_scale_for_each_row_scales_rows():
    guided = guidance.classifier_free(lambda x, sigma: -x, lambda x, sigma: 0 * x, jnp.array([1.0, 3.0]))
    assert guided(jnp.ones((2, 2)), jnp.ones(2)).tolist() == [[-1, -1], [-3, -3]]


def test_scores_of_two_shapes_are_not_guided():
    guided = guidance.classifier_free(lambda x, sigma: x, lambda x, sigma: x[:, :1], 2.0)
    with pytest.raises(ValueError, match=r"the score has shape \(3, 1\), and x has shape \(3, 2\)"):
        guided(jnp.ones((3, 2)), jnp.ones(3))


@pytest.mark.parametrize(("scale", "error"), [(1.0, 0.01), (2.0, 0.05)])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.0])
def test_a_trained_networks_guided_score_is_its_closed_form(trained, sigma, scale, error):
    """At scale 1 it is the conditional score."""
    model, x, label = trained
    x, sigma = x + sigma * noise.normal(key(2), x.shape), jnp.full(len(x), sigma)
    learned = partial(model, condition=label), partial(model, condition=jnp.full_like(label, 2))
    exact = partial(conditional, label=label), unconditional
    guided = [jax.jit(guidance.classifier_free(*each, scale)) for each in (learned, exact)]
    found, expected = (each(x, sigma) for each in guided)
    assert float(((found - expected) ** 2).sum() / (expected**2).sum()) < error


# By a log likelihood ------------------------------------------------------------------------------


def log_posterior(x, sigma):
    """log p(label 0 | x, sigma) for the two classes, by Bayes' rule."""
    v = STD**2 + sigma**2
    logits = -jnp.sum((x[:, None] - MEANS[None]) ** 2, axis=2) / (2 * v[:, None])
    return jax.nn.log_softmax(logits, axis=1)[:, 0]


def test_the_true_likelihood_guides_to_the_conditional_score():
    x, sigma = jax.random.normal(key(), (20, 2)), jnp.linspace(0.2, 5.0, 20)
    guided = guidance.by(unconditional, log_posterior)
    expected = conditional(x, sigma, jnp.zeros(20, int))
    np.testing.assert_allclose(guided(x, sigma), expected, rtol=1e-4, atol=1e-4)


def test_the_scale_of_a_likelihood_may_differ_by_row():
    x, sigma = jax.random.normal(key(), (4, 2)), jnp.ones(4)
    scaled = guidance.by(unconditional, log_posterior, jnp.array([0.0, 1.0, 2.0, 5.0]))(x, sigma)
    once = guidance.by(unconditional, log_posterior)(x, sigma)
    expected = unconditional(x, sigma) + jnp.array([[0.0], [1.0], [2.0], [5.0]]) * (
        once - unconditional(x, sigma)
    )
    np.testing.assert_allclose(scaled, expected, rtol=1e-4, atol=1e-5)


def test_a_likelihood_has_one_number_for_each_row():
    guided = guidance.by(unconditional, lambda x, sigma: x)
    with pytest.raises(ValueError, match="not one number for each of 4 rows"):
        guided(jnp.ones((4, 2)), jnp.ones(4))

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import diagnostics, guidance, mixtures, noise, objectives, samplers, score, types
from jaxscore.types import per_row, right
from tests.grids import rest


@pytest.mark.parametrize("event", [(), (3,), (4, 4, 1)])
def test_right_broadcasts_one_number_per_example(event):
    values, like = jnp.array([2.0, 3.0]), jnp.ones((2, *event))
    assert right(values, like).shape == (2,) + (1,) * len(event)
    product = right(values, like) * like
    assert product.shape == like.shape
    assert jnp.all(product[0] == 2.0)
    assert jnp.all(product[1] == 3.0)


def test_right_keeps_the_axes_that_are_there():
    assert right(jnp.ones((2, 3)), jnp.ones((2, 3, 4, 5))).shape == (2, 3, 1, 1)


@pytest.mark.parametrize(
    "sigma", [0.5, 1, np.float64(0.5), jnp.float32(0.5), np.full(3, 0.5), jnp.full(3, 0.5)]
)
def test_one_number_is_the_level_of_every_row(sigma):
    found = per_row(sigma, jnp.ones((3, 2)))
    assert (found.shape, found.dtype) == ((3,), jnp.float32)
    np.testing.assert_array_equal(found, np.broadcast_to(sigma, 3))


SCORES = {
    "one channel": lambda x, s: x[:, :1],
    "one row": lambda x, s: x[:1],
    "no channels": lambda x, s: x[:, 0],
}
LEVELS = {"columns": (2, 1), "pixels": (2, 1, 1, 1), "another number": (3,), "one of one": (1,)}
KEY = jax.random.key(0)
WEIGHTED = functools.partial(objectives.noise_conditional, weight=lambda sigma: sigma[:, None])
NET = lambda params, x, c_noise: x[:, :1]

USERS = {
    "explicit": lambda score, x, sigma: objectives.explicit(score)(score, KEY, x, sigma),
    "implicit": lambda score, x, sigma: objectives.implicit(score, KEY, x, sigma),
    "sliced": lambda score, x, sigma: objectives.sliced(score, KEY, x, sigma),
    "variance reduced": lambda score, x, sigma: objectives.sliced_variance_reduced(score, KEY, x, sigma),
    "finite difference": lambda score, x, sigma: objectives.finite_difference(score, KEY, x, sigma),
    "denoising": lambda score, x, sigma: objectives.denoising(score, KEY, x, sigma),
    "denoise": score.denoise,
    "vp": lambda s, x, sigma: score.vp(s)(x, sigma),
    "denoiser": lambda s, x, sigma: score.from_denoiser(s)(x, sigma),
    "noise prediction": lambda s, x, sigma: score.from_noise_prediction(s)(x, sigma),
    "guidance": lambda s, x, sigma: guidance.classifier_free(s, s, 2.0)(x, sigma),
    "score norm": diagnostics.score_norm,
    "asymmetry": lambda score, x, sigma: diagnostics.asymmetry(score, KEY, x, sigma),
    "kinked": lambda score, x, sigma: diagnostics.kinked(score, KEY, x, sigma),
    "path": lambda score, x, sigma: samplers.log_ratio_along_path(score, x, x + 1, sigma),
}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("name", ["one channel", rest("one row"), rest("no channels")])
def test_a_score_of_another_shape_is_refused(user, name):
    """It would be broadcast without a word."""
    with pytest.raises(ValueError, match=r"has shape \(.*\), and x has shape \(2, 2\); they must be equal"):
        USERS[user](SCORES[name], jnp.ones((2, 2)), jnp.ones(2))


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("name", ["pixels", rest("columns"), rest("another number"), rest("one of one")])
def test_levels_that_are_no_level_for_each_row_are_refused(user, name):
    """Levels of shape [b, 1, 1, 1] would give a loss of shape [b, 1, 1, b]."""
    with pytest.raises(
        ValueError, match=r"^sigma has shape \(.*\), and x has shape \(2, 2\); it must be one"
    ):
        USERS[user](lambda x, s: -x, jnp.ones((2, 2)), jnp.ones(LEVELS[name]))


@pytest.mark.parametrize("user", USERS)
def test_one_level_for_all_rows_is_a_number(user):
    use = lambda sigma: USERS[user](lambda x, s: -x / right(1 + s**2, x), jnp.ones((2, 2)), sigma)
    np.testing.assert_array_equal(use(0.5), use(jnp.full(2, 0.5)))


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("dtype", ["bfloat16", rest("float16")])
def test_sums_over_x_of_16_bits_are_those_of_float32(user, dtype):
    """A loss is float32; what is like x has the type of x."""
    use = lambda x: USERS[user](lambda x, s: -x / right(1 + s**2, x), x, jnp.full(2, 0.5))
    x = jnp.full((2, 3000), 0.25)
    found, exact = use(x.astype(dtype)), use(x)
    assert found.dtype == (exact.dtype if exact.ndim < 2 else jnp.dtype(dtype))
    np.testing.assert_array_equal(found, exact.astype(found.dtype))


@pytest.mark.parametrize(
    "make",
    [
        lambda: score.preconditioned(NET, 0.5),
        lambda: score.over_sigma(NET),
        lambda: score.at_levels(NET, jnp.ones(1)),
    ],
)
def test_a_network_of_another_shape_is_refused(make):
    with pytest.raises(
        ValueError, match=r"the network's output has shape \(2, 1\), and x has shape \(2, 2\)"
    ):
        make()((), jnp.ones((2, 2)), jnp.ones(2))


def test_a_weight_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"^weight has shape \(2, 1\), and x has shape \(2, 2\)"):
        WEIGHTED(lambda x, s: -x, KEY, jnp.ones((2, 2)), jnp.ones(2))


def test_a_log_density_of_another_shape_is_refused():
    with pytest.raises(
        ValueError, match=r"the log density has shape \(2, 2\), and not one number for each of 2"
    ):
        score.from_log_density(lambda x, s: -(x**2))(jnp.ones((2, 2)), jnp.ones(2))


def test_points_of_another_dimension_are_refused():
    """Points [b, 1] would be broadcast to the mixture's two dimensions."""
    with pytest.raises(ValueError, match=r"x has shape \(5, 1\); points of this mixture are \[b, 2\]"):
        mixtures.score(mixtures.ring(), jnp.ones((5, 1)), jnp.ones(5))


@pytest.mark.parametrize("wrong", SCORES)
def test_generate_and_over_levels_refuse_it_too(wrong):
    said = r"the score has shape \(.*\), and x has shape \(2, 2\); they must be equal"
    losses = objectives.over_levels(objectives.noise_conditional, noise.geometric(0.1, 10.0))
    with pytest.raises(ValueError, match=said):
        losses(SCORES[wrong], jax.random.key(0), jnp.ones((2, 2)))
    sigmas = noise.levels(noise.karras(0.1, 10.0), 4)
    with pytest.raises(ValueError, match=said):
        samplers.generate(jax.random.key(1), (2, 2), sigmas, SCORES[wrong], samplers.heun())


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, bool])
def test_integers_have_scores_and_noise_levels_with_fractions(dtype):
    x = jnp.array([[3, 0], [1, 2]]).astype(dtype)
    run = types.shaped(lambda x, sigma: -x / (1 + sigma[:, None] ** 2))
    np.testing.assert_array_equal(run(x, 0.5), run(x.astype(jnp.float32), 0.5), strict=True)
    np.testing.assert_array_equal(types.per_row(0.5, x), jnp.full(2, 0.5), strict=True)

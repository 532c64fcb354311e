import jax
import jax.numpy as jnp
import pytest

from jaxscore import noise, objectives, samplers
from jaxscore.types import right


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


@pytest.mark.parametrize("wrong", [lambda x, s: x[:, :1], lambda x, s: x[:1], lambda x, s: x[:, 0]])
def test_a_score_of_another_shape_is_refused(wrong):
    """It would be broadcast without a word."""
    key, said = jax.random.key, r"the score has shape \(.*\), and x has shape \(2, 2\); they must be equal"
    losses = objectives.over_levels(objectives.noise_conditional, noise.geometric(0.1, 10.0))
    with pytest.raises(ValueError, match=said):
        losses(wrong, key(0), jnp.ones((2, 2)))
    sigmas = noise.levels(noise.karras(0.1, 10.0), 4)
    with pytest.raises(ValueError, match=said):
        samplers.generate(key(1), (2, 2), sigmas, wrong, samplers.heun())

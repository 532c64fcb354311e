import jax.numpy as jnp
import pytest

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

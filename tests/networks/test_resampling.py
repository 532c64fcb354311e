import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore.networks import resampling
from tests.networks import numpy_ncsn


def images(shape=(2, 6, 8, 3)):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def reference(function, x, *args):
    return np.moveaxis(function(np.moveaxis(x.astype(float), 3, 1), *args), 1, 3)


@pytest.mark.parametrize("name", ["halve", "max_pool", "average_pool"])
def test_pooling_is_what_scipy_and_the_definition_say(name):
    x = images()
    out = getattr(resampling, name)(jnp.asarray(x))
    np.testing.assert_allclose(out, reference(getattr(numpy_ncsn, name), x), rtol=1e-5, atol=1e-6)


def test_the_maximum_of_negative_images_ignores_the_padding():
    assert float(resampling.max_pool(-jnp.ones((1, 3, 3, 1))).max()) == -1.0


@pytest.mark.parametrize("sides", [(6, 8), (12, 16), (6, 16), (3, 5), (1, 1)])
def test_resize_puts_corners_on_corners_and_is_linear_in_between(sides):
    x = images()
    out = jax.jit(resampling.resize, static_argnums=1)(x, sides)
    np.testing.assert_allclose(out, reference(numpy_ncsn.interpolate, x, sides), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out[:, 0, 0], x[:, 0, 0], rtol=1e-5)
    if min(sides) > 1:
        np.testing.assert_allclose(out[:, -1, -1], x[:, -1, -1], rtol=1e-5)


def test_odd_sides_are_not_halved():
    with pytest.raises(ValueError, match=r"\(6, 7\) must be even"):
        resampling.halve(jnp.zeros((1, 6, 7, 1)))


def test_the_gradient_of_the_maximum_goes_to_the_largest_pixel():
    x = jnp.asarray(images((1, 7, 7, 1)))
    gradient = jax.jit(jax.grad(lambda x: resampling.max_pool(x)[0, 3, 3, 0]))(x)[0, :, :, 0]
    window = np.asarray(x)[0, 1:6, 1:6, 0]
    expected = np.zeros((7, 7))
    expected[1:6, 1:6][np.unravel_index(window.argmax(), (5, 5))] = 1.0
    np.testing.assert_array_equal(gradient, expected)


# Along every axis ---------------------------------------------------------------------------------

TAPS = [(1, 1), (1, 3, 3, 1), (1, 2, 3, 3, 2, 1)]


@pytest.mark.parametrize("taps", TAPS)
@pytest.mark.parametrize("event", [(8, 2), (8, 6, 1)])
def test_doubling_is_the_transpose_of_halving(taps, event):
    """Times 2 for each axis; constants stay what they are, away from the border."""
    x = jax.random.normal(jax.random.key(0), (2, *event))
    halve = functools.partial(resampling.halved, taps=taps)
    y = halve(x)
    assert y.shape == (2, *(side // 2 for side in event[:-1]), event[-1])
    (transposed,) = jax.linear_transpose(halve, x)(y)
    rank = len(event) - 1
    np.testing.assert_allclose(resampling.doubled(y, taps), 2**rank * transposed, rtol=1e-5, atol=1e-6)
    reach = len(taps) // 2
    inside = (slice(None), *(slice(reach, -reach) for _ in range(rank)))
    wide = jnp.ones((1, *(32,) * rank, 1))
    for constant in (halve(wide)[inside], resampling.doubled(wide, taps)[inside]):
        np.testing.assert_allclose(constant, 1, rtol=1e-6)


def test_with_two_equal_taps_blocks_are_averaged_and_repeated():
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
    np.testing.assert_allclose(resampling.halved(x), resampling.halve(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(resampling.doubled(x), jnp.repeat(jnp.repeat(x, 2, 1), 2, 2), rtol=1e-6)


@pytest.mark.parametrize("taps", TAPS)
def test_a_border_of_zeros_is_what_halving_adds(taps):
    x = jax.random.normal(jax.random.key(0), (2, 8, 1))
    ends = resampling.bordered(x, taps)
    np.testing.assert_array_equal(resampling.halved(ends, taps, border=False), resampling.halved(x, taps))


def test_odd_sides_and_odd_filters_are_refused():
    with pytest.raises(ValueError, match="a side of 3 must be even"):
        resampling.halved(jnp.ones((1, 4, 3, 1)))
    with pytest.raises(ValueError, match="the filter has 3 taps; their number must be even"):
        resampling.doubled(jnp.ones((1, 4, 1)), (1, 2, 1))


@pytest.mark.parametrize("event", [(6, 3), (4, 6, 2), (2, 4, 6, 1)])
def test_blocks_that_are_folded_are_unfolded_again(event):
    x = jax.random.normal(jax.random.key(0), (3, *event))
    found = resampling.folded(x, 2)
    assert found.shape == (3, *(side // 2 for side in event[:-1]), 2 ** (len(event) - 1) * event[-1])
    np.testing.assert_array_equal(resampling.unfolded(found, 2), x)
    corner = x[(slice(None), *(slice(2) for _ in event[:-1]))]
    np.testing.assert_array_equal(found[(slice(None), *(0 for _ in event[:-1]))].ravel(), corner.ravel())

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import data, noise
from jaxscore.data import augment

SIDE = 32


def hill(rows, columns):
    """A smooth image that differs from all its mirror images and rotations; rows and columns from 0."""
    y, x = (rows - 13.0) / 5, (columns - 17.0) / 7
    return np.exp(-(x**2) - y**2 - 0.6 * x * y)


GRID = np.mgrid[:SIDE, :SIDE].astype(float)
HILL = jnp.asarray(hill(*GRID), jnp.float32)[..., None]
MIDDLE = (SIDE - 1) / 2

AUGMENTED = jax.jit(augment.augmented, static_argnums=2)


def turned(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@pytest.mark.parametrize(
    ("a", "forward", "shift"),
    [
        ({2: 1.5}, 2**0.3 * np.eye(2), (0, 0)),
        ({3: 0.7}, turned(0.7), (0, 0)),
        ({4: 0.4, 5: -1.2}, turned(0.4) @ np.diag([2**-0.24, 2**0.24]) @ turned(-0.4), (0, 0)),
        ({6: 0.55, 7: -0.3}, np.eye(2), (2.2, -1.2)),
        ({2: -1.0, 3: 2.0, 6: 1.0}, 2**-0.2 * turned(2.0), (4, 0)),
    ],
)
def test_an_image_is_moved_as_its_numbers_say(a, forward, shift):
    """x -> forward x + shift from the middle, x to the right and y downwards; the hill is known anywhere."""
    numbers = jnp.asarray([a.get(i, 0.0) for i in range(8)])
    found = np.asarray(augment.moved(HILL, numbers))[..., 0]
    y, x = GRID - MIDDLE
    was = np.einsum("ij,jhw->ihw", np.linalg.inv(forward), np.stack([x - shift[0], y - shift[1]]))
    inside = (np.abs(was) <= MIDDLE).all(axis=0)
    assert inside.mean() > 0.5
    expected = hill(was[1] + MIDDLE, was[0] + MIDDLE)
    np.testing.assert_allclose(found[inside], expected[inside], atol=4e-3)  # the error of cubics


def test_mirrors_are_exact():
    numbers = jnp.eye(8)[:2]
    np.testing.assert_array_equal(augment.moved(HILL, numbers[0]), HILL[:, ::-1])
    np.testing.assert_array_equal(augment.moved(HILL, numbers[1]), HILL[::-1])


def test_outside_the_image_is_its_reflection():
    """Moved to the right by 3 pixels: the first columns are 3, 2, 1, 0, 1, ... of the image."""
    image = jnp.arange(8.0)[None, :, None] * jnp.ones((4, 1, 1))
    found = augment.moved(image, jnp.zeros(8).at[6].set(3.0))
    np.testing.assert_array_equal(found[0, :, 0], [3, 2, 1, 0, 1, 2, 3, 4])


def test_labels_of_zero_mean_an_unchanged_image():
    images = jax.random.normal(jax.random.key(0), (500, 6, 5, 2))
    changed, labels = jax.jit(lambda key: augment.augmented(key, images, 0.1))(jax.random.key(1))
    still = np.all(np.asarray(labels) == 0, axis=1)
    np.testing.assert_array_equal(changed[still], images[still])
    assert not any(np.array_equal(a, b) for a, b in zip(changed[~still], images[~still], strict=True))
    # Neither mirrored nor anything else: 1/2 * 0.95 * 0.9^4 = 0.31, give or take 0.021.
    assert abs(still.mean() - 0.31) < 0.09


def test_each_change_has_its_probability():
    _, labels = AUGMENTED(jax.random.key(2), jnp.zeros((4000, 2, 2, 1)), 0.2)
    found = np.mean(np.asarray(labels) != 0, axis=0)
    # Four standard errors of a frequency of 1/2 are 0.032.
    np.testing.assert_allclose(found, [0.5, 0.1, *[0.2] * 7], atol=0.032)
    assert np.abs(np.asarray(labels)[:, 3:5] + [1, 0]).max() <= 1.0 + 1e-6  # a cosine and a sine


def test_a_row_depends_on_its_own_key():
    images, key = jax.random.normal(jax.random.key(3), (20, 4, 4, 1)), jax.random.key(4)
    changed, labels = AUGMENTED(key, images, 0.5)
    keys = noise.row_keys(jax.random.clone(key), 20)
    again = AUGMENTED(keys[7:9], images[7:9], 0.5)
    np.testing.assert_allclose(again[0], changed[7:9], atol=1e-6)
    np.testing.assert_array_equal(again[1], labels[7:9])


def test_a_probability_of_two_is_refused():
    with pytest.raises(ValueError, match=r"probability = 2.0 must lie in 0\.\.1"):
        data.augment.augmented(jax.random.key(0), jnp.zeros((1, 2, 2, 1)), 2.0)

"""Known values, blocks, kernels and colours, against NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxscore import noise
from jaxscore.inverse import operators


def test_a_mask_returns_the_known_values_and_puts_them_back():
    known = np.array([[[True], [False]], [[False], [True]]])
    operator = operators.mask(known)
    x = jnp.arange(8.0).reshape(2, 2, 2, 1)
    np.testing.assert_array_equal(operator.apply(x), [[0, 3], [4, 7]])
    np.testing.assert_array_equal(operator.adjoint(operator.apply(x)), np.where(known, x, 0))


@pytest.mark.parametrize("known", [np.array([0.0, 1e-3]), np.array([0.0, 0.5]), np.array([0, 1])])
def test_a_mask_that_is_not_boolean_is_refused(known):
    with pytest.raises(ValueError, match="must be boolean"):
        operators.mask(known)


def test_a_mask_must_fit():
    with pytest.raises(ValueError, match="false everywhere"):
        operators.mask(np.zeros(3, bool))
    with pytest.raises(ValueError, match=r"shape \(3,\), and an event has shape \(4,\)"):
        operators.mask(np.ones(3, bool)).apply(jnp.ones((2, 4)))


def test_blocks_are_averaged_and_keep_their_centre():
    operator = operators.downsample(2)
    ramp = jnp.arange(8.0).reshape(1, 8, 1)
    np.testing.assert_array_equal(operator.apply(ramp)[0, :, 0], [0.5, 2.5, 4.5, 6.5])
    x = np.random.default_rng(0).random((3, 4, 6, 2)).astype(np.float32)
    expected = x.reshape(3, 2, 2, 3, 2, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(operator.apply(jnp.asarray(x)), expected, rtol=1e-6)
    point = jnp.zeros((1, 8, 1)).at[0, 3].set(1.0)
    back = operators.pseudo_inverse(operator, operator.apply(point))[0, :, 0]
    np.testing.assert_allclose(back @ jnp.arange(8.0), 2.5)  # the centre of the block of 2 and 3


def test_a_factor_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="factor = 4 must divide"):
        operators.downsample(4).apply(jnp.ones((1, 8, 6, 1)))
    with pytest.raises(ValueError, match="at least 1"):
        operators.downsample(0)


@pytest.mark.parametrize("size", [8, 9])
def test_blur_is_a_convolution_not_a_correlation(size):
    kernel = np.arange(1.0, 10.0).reshape(3, 3)
    x = np.random.default_rng(1).random((size, size))
    expected = scipy.ndimage.convolve(x, kernel, mode="wrap")
    found = operators.blur(kernel).apply(jnp.asarray(x, jnp.float32)[None, ..., None])
    np.testing.assert_allclose(found[0, ..., 0], expected, rtol=1e-4)


def test_a_point_becomes_the_kernel():
    for kernel in (np.arange(1.0, 10.0).reshape(3, 3), np.array([[1.0, 2.0], [3.0, 4.0]])):
        rows, columns = kernel.shape
        point = jnp.zeros((1, 8, 9, 1)).at[0, 4, 4, 0].set(1.0)
        found = np.asarray(operators.blur(kernel).apply(point))[0, ..., 0]
        top, left = 4 - rows // 2, 4 - columns // 2
        np.testing.assert_allclose(found[top : top + rows, left : left + columns], kernel, atol=1e-5)
        np.testing.assert_allclose(found.sum(), kernel.sum(), rtol=1e-5)
        back = np.asarray(operators.blur(kernel).adjoint(jnp.asarray(found)[None, ..., None]))[0, ..., 0]
        assert np.unravel_index(back.argmax(), back.shape) == (4, 4)  # even kernels do not drift


def test_a_kernel_that_does_not_fit_is_refused():
    for kernel in (np.ones((9, 3)), np.ones(3)):
        with pytest.raises(ValueError, match="the kernel has shape"):
            operators.blur(kernel).apply(jnp.ones((1, 8, 8, 1)))


def test_a_gaussian_kernel_has_its_standard_deviation():
    kernel = operators.gaussian_kernel(1.5)
    line = kernel.sum(axis=0)
    np.testing.assert_allclose(kernel.sum(), 1.0, rtol=1e-5)
    # Cut off at three standard deviations, it is one percent narrower.
    np.testing.assert_allclose(np.sqrt(line @ np.arange(-5.0, 6.0) ** 2), 1.5, rtol=0.02)
    with pytest.raises(ValueError, match="std = 0"):
        operators.gaussian_kernel(0.0)


def test_grey_is_the_weighted_sum_of_the_channels():
    x = noise.normal(jax.random.key(0), (2, 3, 4, 3))
    expected = np.asarray(x) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(operators.grey().apply(x)[..., 0], expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="3 weights"):
        operators.grey().apply(jnp.ones((1, 4, 4, 1)))


@pytest.mark.parametrize("level", [0.0, 0.01, 0.05, 0.5])
def test_regularised_deblurring_beats_the_pseudo_inverse(level):
    operator, x = (
        operators.blur(operators.gaussian_kernel(0.8)),
        noise.normal(jax.random.key(1), (64, 8, 8, 1)),
    )
    y = operator.apply(x) + level * noise.normal(jax.random.key(2), x.shape)
    error = lambda found: float(jnp.sqrt(jnp.mean((found - x) ** 2)))
    best = operator.adjoint(operators.solve(operator, level**2, y))  # the posterior mean of x from N(0, I)
    assert error(best) <= error(operators.pseudo_inverse(operator, y)) + 1e-6
    assert error(best) < 1.0

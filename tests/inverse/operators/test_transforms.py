"""Tomography against scikit-image, Fourier coefficients against NumPy, and magnitudes."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import noise
from jaxscore.inverse import operators


def test_the_radon_transform_is_scikit_images():
    """radon.npz: the Shepp-Logan phantom at 64 x 64, and skimage.transform.radon of it, version 0.26."""
    with np.load(Path(__file__).parent / "parity" / "radon.npz") as file:
        image, angles, sinogram = file["image"], file["angles"], file["sinogram"]
    operator = operators.radon(angles, (64, 64, 1))
    found = operator.apply(jnp.asarray(image)[None, ..., None])[0, ..., 0]
    np.testing.assert_allclose(found, sinogram, atol=1e-4)  # of values up to 16
    with pytest.raises(ValueError, match="radon was made for"):
        operator.apply(jnp.ones((1, 32, 32, 1)))
    with pytest.raises(ValueError, match="needs images"):
        operators.radon(angles, (64, 64))


@pytest.mark.parametrize("shape", [(5, 5), (4, 4), (5, 4)])
def test_a_point_in_the_middle_has_a_flat_spectrum_of_phase_0(shape):
    point = np.zeros(shape, np.complex64)
    point[shape[0] // 2, shape[1] // 2] = 1.0
    z = operators.centred(point)
    np.testing.assert_allclose(z, np.full(shape, 1 / np.sqrt(point.size)), atol=1e-6)
    np.testing.assert_allclose(operators.centred(z, inverse=True), point, atol=1e-6)


def test_fourier_coefficients_of_every_coil_are_numpys():
    rng, known = np.random.default_rng(0), np.random.default_rng(1).random((4, 5)) < 0.5
    coils = rng.standard_normal((3, 4, 5)) + 1j * rng.standard_normal((3, 4, 5))
    x = rng.standard_normal((2, 4, 5, 2)).astype(np.float32)
    image = (x[..., 0] + 1j * x[..., 1])[:, None] * coils
    z = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, (2, 3)), norm="ortho"), (2, 3))[..., known]
    found = operators.fourier(known, coils, real=False).apply(jnp.asarray(x))
    np.testing.assert_allclose(found, np.stack([z.real, z.imag], axis=-1), atol=1e-5)


def test_all_coefficients_give_the_image_back():
    operator = operators.fourier(np.ones((6, 6), bool))
    x = noise.normal(jax.random.key(0), (2, 6, 6, 1))
    np.testing.assert_allclose(operator.adjoint(operator.apply(x)), x, atol=1e-5)


def test_fourier_refuses_what_does_not_fit():
    known = np.ones((4, 4), bool)
    with pytest.raises(ValueError, match="must be boolean"):
        operators.fourier(known.astype(float))
    with pytest.raises(ValueError, match="the coils have shape"):
        operators.fourier(known, np.ones((2, 5, 4)))
    with pytest.raises(ValueError, match=r"it must have \(4, 4, 1\)"):
        operators.fourier(known).apply(jnp.ones((1, 4, 4, 2)))


def test_magnitudes_do_not_know_where_an_image_is_nor_its_sign():
    operator = operators.phase_retrieval()
    x = jnp.zeros((1, 8, 8, 1)).at[:, 2:5, 2:6].set(noise.normal(jax.random.key(0), (1, 3, 4, 1)))
    y = operator.apply(x)
    assert y.shape == (1, 16, 16, 1)
    np.testing.assert_allclose(operator.apply(-x), y, atol=1e-5)
    np.testing.assert_allclose(operator.apply(jnp.roll(x, 2, axis=1)), y, atol=1e-5)
    spectrum = np.abs(np.fft.fft2(np.asarray(x)[0, ..., 0], (16, 16), norm="ortho"))
    np.testing.assert_allclose(y[0, ..., 0], spectrum, atol=1e-5)
    assert jnp.isfinite(jax.grad(lambda x: operator.apply(x).sum())(jnp.zeros_like(x))).all()
    with pytest.raises(ValueError, match="oversampling = 0"):
        operators.phase_retrieval(0)
    with pytest.raises(ValueError, match="needs images"):
        operator.apply(jnp.ones((1, 8)))

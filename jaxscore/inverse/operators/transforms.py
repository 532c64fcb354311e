"""Operators of tomography, magnetic resonance and diffraction."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxscore.inverse.operators.linear import Operator
from jaxscore.types import AnyArray, Array


def radon(angles: AnyArray, event: tuple[int, ...]) -> Operator:
    """Returns line integrals of an image [h, w, c] at the given angles, y[b, n, detectors, c].

        y[angle, s] = sum_t x(s cos(angle) + t sin(angle), t cos(angle) - s sin(angle))

    s and t are in pixels from the pixel [h // 2, w // 2]; the first coordinate goes to the right, the second
    down. There are max(h, w) detectors s and steps t. The image is interpolated linearly, and is 0 outside.
    At angle 0 the pixels of each column are added.

    Args:
        angles: [n], in degrees.
        event: shape of the image.

    Raises ValueError unless the event is an image.

    Source: Radon 1917. The convention is that of scikit-image.
    """
    if len(event) != 3:
        raise ValueError(f"an event has shape {event}; radon needs images [h, w, c]")
    (h, w, _), degrees = event, np.deg2rad(np.asarray(angles, np.float64))
    size = max(h, w)
    line = np.arange(size) - size // 2
    s, t = line[None, :, None], line[None, None, :]
    cos, sin = np.cos(degrees)[:, None, None], np.sin(degrees)[:, None, None]
    across, down = s * cos + t * sin + w // 2, t * cos - s * sin + h // 2
    points = [jnp.asarray(each, jnp.float32) for each in (down, across)]

    def plane(image: Array) -> Array:
        return jax.scipy.ndimage.map_coordinates(image, points, order=1, mode="constant").sum(axis=-1)

    def apply(x: Array) -> Array:
        if x.shape[1:] != tuple(event):
            raise ValueError(f"an event has shape {x.shape[1:]}, and radon was made for {tuple(event)}")
        return jax.vmap(jax.vmap(plane, -1, -1))(x)

    def adjoint(y: Array) -> Array:
        return jax.linear_transpose(apply, jax.ShapeDtypeStruct((len(y), *event), y.dtype))(y)[0]

    return Operator(apply, adjoint)


def fourier(known: AnyArray, coils: AnyArray | None = None, *, real: bool = True) -> Operator:
    """Returns known Fourier coefficients of an image, y[b, n, m, 2]: magnetic resonance, with n coils.

        y[i] = coefficients of coils[i] x where `known` is true, as real and imaginary part

    The transform is orthonormal, and the frequency 0 is at [h // 2, w // 2]; see `centred`.

    Args:
        known: [h, w], true where a coefficient is measured.
        coils: complex sensitivities [n, h, w] of the coils; one coil that sees everything alike by default.
        real: whether an event is a real image [h, w, 1]; otherwise it has real and imaginary part, [h, w, 2].

    Raises ValueError if `known` is not boolean or false everywhere, or if the coils have another shape.

    Source: Pruessmann et al. 1999 (SENSE).
    """
    known = np.asarray(known)
    if known.dtype != bool or not known.any():
        raise ValueError(f"known has {known.dtype} values; it must be boolean, and true somewhere")
    coils = np.ones((1, *known.shape), np.complex64) if coils is None else np.asarray(coils, np.complex64)
    if coils.shape[1:] != known.shape:
        raise ValueError(f"the coils have shape {coils.shape}, and known has shape {known.shape}")
    places, event = np.flatnonzero(known), (*known.shape, 1 if real else 2)

    def apply(x: Array) -> Array:
        if x.shape[1:] != event:
            raise ValueError(f"an event has shape {x.shape[1:]}, and it must have {event}")
        image = x[..., 0] if real else jax.lax.complex(x[..., 0], x[..., 1])
        z = centred(image[:, None] * coils[None]).reshape(len(x), len(coils), -1)[..., places]
        return jnp.stack([z.real, z.imag], axis=-1)

    def adjoint(y: Array) -> Array:
        z = jnp.zeros((*y.shape[:2], known.size), jnp.complex64)
        z = z.at[..., places].set(jax.lax.complex(y[..., 0], y[..., 1]))
        z = centred(z.reshape(*y.shape[:2], *known.shape), inverse=True)
        image = jnp.sum(coils.conj()[None] * z, axis=1)
        return image.real[..., None] if real else jnp.stack([image.real, image.imag], axis=-1)

    return Operator(apply, adjoint)


def centred(x: AnyArray, *, inverse: bool = False) -> Array:
    """Orthonormal Fourier transform of the last two axes, zero at [h // 2, w // 2]."""
    axes = (-2, -1)
    transform = jnp.fft.ifft2 if inverse else jnp.fft.fft2
    return jnp.fft.fftshift(transform(jnp.fft.ifftshift(x, axes), norm="ortho"), axes)


def phase_retrieval(oversampling: int = 2) -> Operator:
    """Returns magnitudes of the Fourier coefficients of an image [h, w, c]; their phases are lost.

        y = |F pad(x)|, [b, oversampling h, oversampling w, c]

    The operator is not linear, so it has no adjoint. A shifted or rotated image has the same magnitudes.

    Raises ValueError if oversampling < 1.

    Source: Fienup 1982; Chung et al. 2023, section 4.
    """
    if oversampling < 1:
        raise ValueError(f"oversampling = {oversampling} must be at least 1")

    def apply(x: Array) -> Array:
        if x.ndim != 4:
            raise ValueError(f"an event has shape {x.shape[1:]}; phase retrieval needs images [h, w, c]")
        shape = tuple(oversampling * length for length in x.shape[1:3])
        z = jnp.fft.fft2(x, shape, axes=(1, 2), norm="ortho")
        return jnp.sqrt(z.real**2 + z.imag**2 + 1e-12)  # smooth at 0, where the magnitude has no gradient

    return Operator(apply)

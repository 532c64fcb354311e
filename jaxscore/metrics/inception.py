"""The Frechet inception distance (FID): statistics of Inception features, and the files that hold them.

    features = inception.features("pt_inception-2015-12-05-6726825d.pth")
    ours = inception.statistics([features(samples)])            # bytes [n, h, w, c]
    theirs = inception.read("reference.npz")                    # or inception.statistics([features(images)])
    fid = inception.fid(ours, theirs)

The network, its weights and the resizing are those of pytorch-fid. Round samples and reference images alike
to 8 bits: `np.round(255 * x).astype(np.uint8)` for pixels in 0..1. The FID depends on both numbers of
images. Papers compare 50,000 samples with the training set.

>>> a, b = np.random.default_rng(0).standard_normal((2, 50, 3)) + np.array([[[0.0]], [[2.0]]])
>>> ours, theirs = statistics([a[:20], a[20:]]), statistics([b])
>>> ours.n, 8 < fid(ours, theirs) < 16
(50, True)
"""

import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxscore import importers, sharding
from jaxscore.metrics.distances import frechet_of_gaussians
from jaxscore.metrics.features import mapped
from jaxscore.networks.inception import FEATURES, Inception
from jaxscore.types import AnyArray

BATCH = 32
"""Number of images for each device at a time."""

METHOD = (
    "Inception features of pytorch-fid; 8-bit pixels, resized to 299 x 299 by bilinear interpolation "
    "(align_corners=False) without antialiasing"
)
"""How `features` makes its features; write it beside every FID."""


class Statistics(NamedTuple):
    """Mean and covariance of the features of n images."""

    mean: Float[np.ndarray, "d"]
    covariance: Float[np.ndarray, "d d"]
    n: int | None = None
    """Number of images; None if a file does not say it."""


def features(path: str | Path, mesh: jax.sharding.Mesh | None = None) -> Callable[[AnyArray], np.ndarray]:
    """Returns features(images[n, h, w, c]) -> [n, 2048], by the Inception network with the weights of a file.

    The images are bytes (uint8) with 1 or 3 channels; grey images are repeated to three channels. The
    network runs in batches on all devices of the mesh, by default on all devices of this process.

    Raises:
        ValueError: if the file does not hold the weights; from the returned function, unless the images are
            bytes with 1 or 3 channels, because pixels of another range would give another FID.
        OSError: if there is no such file.
    """
    mesh = mesh or sharding.mesh(devices=jax.local_devices())
    params = jax.device_put(importers.inception.load(path), sharding.replicated(mesh))
    network = lambda x, params: Inception().apply(params, jnp.broadcast_to(x, (*x.shape[:3], 3)))
    apply = mapped(network, mesh, batch=BATCH * mesh.size)

    def checked(images: AnyArray) -> np.ndarray:
        if images.dtype != np.uint8:
            need = "they must be bytes 0..255, rounded as the reference's are"
            raise ValueError(f"the images are {images.dtype}; {need}")
        if not is_image(images.shape[1:]):
            raise ValueError(f"images of shape {images.shape} are not [n, h, w, 1] or [n, h, w, 3]")
        return apply(images, params)

    return checked


def is_image(event: tuple[int, ...]) -> bool:
    """Whether the network takes arrays of this shape: [h, w, c] with 1 or 3 channels."""
    return len(event) == 3 and event[-1] in (1, 3)


def statistics(parts: Iterable[AnyArray]) -> Statistics:
    """Mean and unbiased covariance (divisor n - 1) of the features in all parts [n_i, d], in float64.

    The parts are read one at a time, so that not all features need to fit in memory.

    Raises:
        ValueError: for fewer than 2 images.

    Source: Chan, Golub & LeVeque 1983 (the sums of two parts).
    """
    n, mean, squares = 0, 0.0, 0.0
    for part in parts:
        x = np.asarray(part, np.float64)
        centre = x.mean(axis=0)
        step = centre - mean
        squares = squares + (x - centre).T @ (x - centre)
        squares += np.outer(step, step) * (n * len(x) / (n + len(x)))
        n += len(x)
        mean = mean + step * (len(x) / n)
    if n < 2:
        raise ValueError(f"{n} images: a covariance needs at least 2")
    return Statistics(mean, squares / (n - 1), n)


def fid(a: Statistics, b: Statistics) -> float:
    """Frechet distance between the Gaussians with these statistics.

    It is finite and symmetric for fewer images than features too, but then far too large: the covariances
    are singular.

    Source: Heusel et al. 2017, equation 6.
    """
    return frechet_of_gaussians(a.mean, a.covariance, b.mean, b.covariance)


# Files --------------------------------------------------------------------------------------------


def save(path: str | Path, found: Statistics, **further: AnyArray) -> None:
    """Writes an .npz file with `mu` and `sigma`, as pytorch-fid and EDM do, with `n` and further arrays.

    The file is written under another name and then renamed.
    """
    path = Path(path)
    temporary = path.with_suffix(".tmp.npz")
    number = {} if found.n is None else {"n": np.array(found.n)}
    np.savez(temporary, mu=found.mean, sigma=found.covariance, **number, **further)
    os.replace(temporary, path)


def read(path: str | Path) -> Statistics:
    """Statistics from an .npz file with `mu` [2048] and `sigma` [2048, 2048], as pytorch-fid and EDM do.

    Raises:
        ValueError: if the file holds no such arrays, or they are no mean and covariance.
        OSError: if there is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in ("mu", "sigma", "n") if name in file.files}
    except (ValueError, AttributeError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        raise ValueError("not an .npz file of NumPy arrays") from None
    for name, shape in {"mu": (FEATURES,), "sigma": (FEATURES, FEATURES)}.items():
        if name not in arrays:
            raise ValueError(f"the file has no array {name!r}")
        if arrays[name].shape != shape or arrays[name].dtype.kind != "f":
            kind = f"{arrays[name].dtype}{list(arrays[name].shape)}"
            raise ValueError(f"its {name!r} is {kind}; it must be floats {list(shape)}")
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"its {name!r} is not finite")
    covariance = arrays["sigma"].astype(np.float64)
    if np.abs(covariance - covariance.T).max() > 1e-6 * np.abs(covariance).max():
        raise ValueError("its 'sigma' is not symmetric")
    n = arrays.get("n")
    return Statistics(arrays["mu"].astype(np.float64), covariance, None if n is None else int(n))

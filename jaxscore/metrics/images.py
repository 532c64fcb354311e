"""How near an image is to the true one: peak signal-to-noise ratio, and structural similarity.

Both take images in 0..1 and return a value for each image, which depends on no other image.
"""

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

from jaxscore.types import AnyArray


def psnr(images: AnyArray, truths: AnyArray) -> Float[np.ndarray, "n"]:
    """-10 log10 of the mean squared error, in decibels: the peak signal-to-noise ratio for a peak of 1.

    It is infinite for equal images. Raises ValueError if the shapes differ, or for integers.
    """
    a, b = _pair(images, truths)
    with np.errstate(divide="ignore"):
        return -10 * np.log10(np.mean((a - b) ** 2, axis=tuple(range(1, a.ndim))))


def ssim(images: AnyArray, truths: AnyArray) -> Float[np.ndarray, "n"]:
    """Structural similarity, the mean over pixels and channels; 1 for equal images.

        (2 mu_a mu_b + C1) (2 cov_ab + C2) / ((mu_a^2 + mu_b^2 + C1) (var_a + var_b + C2))

    Means and covariances are weighted by a Gaussian of standard deviation 1.5 pixels, cut off at 5 pixels.
    Images are mirrored at their borders. C1 = 0.01^2 and C2 = 0.03^2.

    Raises ValueError if the shapes differ, for integers, and unless images are [n, h, w, c].

    Source: Wang et al. 2004, equation 13.
    """
    a, b = _pair(images, truths)
    if a.ndim != 4:
        raise ValueError(f"images have shape {a.shape}; structural similarity needs [n, h, w, c]")
    mean = lambda x: gaussian_filter(x, (0, 1.5, 1.5, 0), truncate=3.5)
    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b, cov = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2, mean(a * b) - mu_a * mu_b
    above = (2 * mu_a * mu_b + 0.01**2) * (2 * cov + 0.03**2)
    below = (mu_a**2 + mu_b**2 + 0.01**2) * (var_a + var_b + 0.03**2)
    return np.mean(above / below, axis=(1, 2, 3))


def _pair(images: AnyArray, truths: AnyArray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(images), np.asarray(truths)
    if a.shape != b.shape:
        raise ValueError(f"images have shape {a.shape}, and the true ones {b.shape}; they must be equal")
    if not all(np.issubdtype(each.dtype, np.floating) for each in (a, b)):
        raise ValueError(f"images of {a.dtype} and {b.dtype}: divide grey values by 255, to be in 0..1")
    return a.astype(float), b.astype(float)

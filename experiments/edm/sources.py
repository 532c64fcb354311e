"""The data of `experiments.edm`, their classes, and the units in which the network sees them."""

import jax.numpy as jnp
import numpy as np

from experiments.edm.config import Config
from jaxscore import data, samplers
from jaxscore.launch import Units, flags

PIXELS = Units(lambda images: 2 * images - 1, lambda x: jnp.clip((x + 1) / 2, 0, 1))
"""The network sees pixels in -1..1."""


def load(config: Config) -> data.Dataset:
    """Returns the data; without them, no images if --mode sample needs none.

    Raises DataError if data are needed and absent.
    """
    try:
        return data.load(config.data, config.data_dir, size=config.size)
    except data.DataError:
        if config.mode != "sample":
            raise
        return data.Dataset(np.zeros((0, *config.shape), np.float32), np.zeros(0, np.int32))


def classes_of(config: Config, source: data.Dataset) -> int:
    """Returns the number of classes.

    Raises FlagError for data without classes, and for --classes and --sampling.label that do not fit.
    """
    found = source.classes
    flags.require(
        config.classes == 0 or config.classes >= found,
        "classes",
        config.classes,
        f"must be at least {found}, as many as --data has",
    )
    classes, label = config.classes or found, config.sampling.label
    remedy = f"needs labels, which {config.data!r} lacks; give --no-conditional --p-uncond 0"
    unknown = not len(source.labels) or config.data.startswith("random:")
    flags.require(classes > 1 or unknown, "conditional", True, remedy)
    flags.require(
        label is None or label in range(classes), "sampling.label", label, f"must be one of 0..{classes - 1}"
    )
    return classes


def units_of(config: Config, source: data.Dataset) -> Units:
    """Returns the units of the network: pixels in -1..1, or latents of mean 0 and standard deviation 1/2.

    Mean and standard deviation are those of each channel. Raises DataError for latents that are absent.
    """
    if not latents(config):
        return PIXELS
    if not len(source.examples):
        raise data.DataError(f"--data {config.data}: samples are in units of the latents, which are absent")
    found = thinned(source.examples)
    mean, std = (f(found, axis=tuple(range(found.ndim - 1))) for f in (np.mean, np.std))
    mean, scale = mean[None, None, None], 2 * np.maximum(std, 1e-6)[None, None, None]
    return Units(lambda latents: (latents - mean) / scale, lambda x: x * scale + mean)


def latents(config: Config) -> bool:
    """Returns whether the data are latents of an autoencoder, which are no images."""
    return config.data.startswith("latents:")


def moments_of(source: data.Dataset, units: Units) -> samplers.Moments | None:
    """Returns mean and covariance of the data in units of the network; None if they are absent."""
    return samplers.moments(units.encode(thinned(source.examples))) if len(source.examples) else None


def thinned(images: data.Examples) -> np.ndarray:
    """Returns at most 10,000 of the images, in 0..1."""
    return data.pixels.unit(np.asarray(images[:: -(-len(images) // 10_000)]))

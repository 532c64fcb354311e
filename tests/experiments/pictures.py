"""Pictures that a program has drawn."""

from pathlib import Path

import matplotlib.image
import numpy as np


def ink(path: Path) -> float:
    """The share of the pixels that are not white; of frames and titles alone it is less than 0.02."""
    return np.mean(np.any(matplotlib.image.imread(path)[..., :3] != 1, axis=-1))


def aspect(path: Path) -> float:
    """Width by height."""
    height, width = matplotlib.image.imread(path).shape[:2]
    return width / height

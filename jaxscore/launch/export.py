"""Export: samples as 8-bit images, in the form that other programs for image metrics read.

`--export npz` writes report/export/NAME.npz with `arr_0`, uint8 [n, h, w, c], for each array of samples.
`--export png` writes report/export/NAME/00000.png and so on, one file for each sample.
"""

import shutil
from pathlib import Path

import jax
import numpy as np

from jaxscore.data.formats import pictures
from jaxscore.launch import programs
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.flags import require

COLOURS = (1, 3, 4)
"""Numbers of channels that a PNG can have: grey, colours, colours and alpha."""


def require_images(experiment: Experiment, mesh: jax.sharding.Mesh) -> None:
    """Raises FlagError if --export is given and no sampler draws images of that format; draws nothing."""
    kind = experiment.config.export
    if kind is None:
        return
    drawn = [programs.drawn(experiment, name, mesh) for name in experiment.samplers]
    shapes = [leaf.shape[1:] for leaf in jax.tree.leaves(drawn)]
    images = [shape for shape in shapes if len(shape) == 3]
    remedy = f"samples of shape {list(shapes[0])} are no images [h, w, c]; leave the flag out"
    require(bool(images), "export", kind, remedy)
    if kind == "png":
        remedy = f"a PNG cannot have {images[0][-1]} channels; give --export npz"
        require(all(shape[-1] in COLOURS for shape in images), "export", kind, remedy)


def write(samples: dict[str, np.ndarray], kind: str, folder: Path) -> list[Path]:
    """Writes each array of images [n, h, w, c] as npz or as PNGs; returns the paths of files or folders."""
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier run exported is of other samples
    folder.mkdir(parents=True)
    images = {name: as_bytes(x) for name, x in samples.items() if x.ndim == 4}
    return [(_npz if kind == "npz" else _pngs)(x, folder / name) for name, x in images.items()]


def as_bytes(x: np.ndarray) -> np.ndarray:
    """Returns images in 0..1 as uint8: clipped, times 255, rounded to the nearest."""
    return np.round(np.clip(np.asarray(x, np.float64), 0, 1) * 255).astype(np.uint8)


def _npz(x: np.ndarray, path: Path) -> Path:
    path = path.parent / f"{path.name}.npz"
    temporary = path.parent / f"{path.name}.tmp.npz"
    np.savez(temporary, arr_0=x)
    temporary.replace(path)
    return path


def _pngs(x: np.ndarray, folder: Path) -> Path:
    """Writes into a new folder, then renames it, so that no picture of an earlier run is left."""
    temporary = folder.parent / f"{folder.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for number, image in enumerate(x):
        (temporary / f"{number:05d}.png").write_bytes(pictures.encode(image))
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)
    return folder

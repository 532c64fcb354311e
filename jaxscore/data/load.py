"""Data sets by name: where each one is found, and how its images are cropped.

>>> load("digits").examples.shape
(1797, 8, 8, 1)
"""

from pathlib import Path
from typing import NamedTuple

from jaxscore.data import arrays
from jaxscore.data.arrays import Dataset
from jaxscore.data.formats import idx, tfds
from jaxscore.data.formats.folder import load as load_folder
from jaxscore.data.images import DataError

NAMES = (
    "digits, fashion_mnist, mnist, cifar10, imagenet_resized/64x64, celeb_a, lsun/church_outdoor, "
    "lsun/bedroom, lsun/tower, npz:FILE, latents:FILE, folder:PATH, tfds:NAME, random:HxWxC"
)

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Folder of Debian's package dataset-fashion-mnist."""


class Cut(NamedTuple):
    """Arguments of `pictures.fit`, which cuts a square from each image and resizes it."""

    crop: int | None = None
    size: int | None = None


WHOLE = ("npz", "latents", "folder", "random")
"""Prefixes of data sets without splits."""

IMAGENET = tuple(f"imagenet_resized/{side}x{side}" for side in (8, 16, 32, 64))

UNSIZED = ("digits", "mnist", "fashion_mnist", "cifar10", *IMAGENET)
"""Data sets of small images, which are not resized."""

TFDS = {
    **dict.fromkeys(UNSIZED[1:], Cut()),
    "celeb_a": Cut(crop=140, size=64),
    "lsun/church_outdoor": Cut(size=96),
    "lsun/bedroom": Cut(size=128),
    "lsun/tower": Cut(size=128),
}
"""Names in tensorflow-datasets, with the crops and resolutions of Song & Ermon 2020."""


def load(
    name: str,
    folder: str | Path | None = None,
    *,
    split: str = "train",
    size: int | None = None,
    conditions: tuple[str, ...] = (),
) -> Dataset:
    """Returns the data set with this name: images, which are indexed like an array, and labels.

    | name                   | images (in all splits)             | without `folder`      |
    |------------------------|------------------------------------|-----------------------|
    | digits                 | 1,797 of 8x8                       | scikit-learn's        |
    | fashion_mnist          | 70,000 of 28x28                    | Debian's, else TFDS's |
    | mnist                  | 70,000 of 28x28                    | TFDS's                |
    | cifar10                | 60,000 of 32x32x3                  | TFDS's                |
    | imagenet_resized/64x64 | 1,331,167 of 64x64x3; or 8, 16, 32 | TFDS's                |
    | celeb_a                | 202,599, the middle 140 as 64x64x3 | TFDS's                |
    | lsun/church_outdoor    | 126,527, as 96x96x3                | TFDS's                |
    | lsun/bedroom           | 3,033,342, as 128x128x3            | TFDS's                |
    | lsun/tower             | 708,564, as 128x128x3              | TFDS's                |
    | npz:FILE               | your own .npz or .npy: `from_npz`  |                       |
    | latents:FILE           | the same, with any numbers         |                       |
    | folder:PATH            | pictures in .png, .jpg, .webp, ... |                       |
    | tfds:NAME              | any that TFDS has prepared         | TFDS's                |
    | random:HxWxC           | 1,024 of random bytes, to plan     |                       |

    NAME may be NAME/CONFIG. Data sets of more than 1 GiB as float32 are read when they are needed (`Images`).
    Nothing is downloaded.

    Args:
        name: a name from the table.
        folder: folder with the four IDX files of mnist or fashion_mnist, or a data folder of
            tensorflow-datasets (TFDS). TFDS's own is TFDS_DATA_DIR or ~/tensorflow_datasets.
        split: train, test, all, or another split of a TFDS data set. For digits and the names with a colon
            other than tfds:, train and all are the same.
        size: side of the images in pixels, for celeb_a, lsun, folder: and tfds:.
        conditions: names of further arrays of an npz: file.

    Raises:
        DataError: if the data set is absent or damaged, or the arguments do not fit it. For an absent data
            set the text says how to get it.
    """
    folder = None if folder is None else Path(folder).expanduser()
    kind, rest = _parts(name)
    if size is not None and (name in UNSIZED or kind in ("npz", "latents", "random")):
        raise DataError(f"the images of {name} have one size; size={size} cannot be chosen")
    if size is not None and not (isinstance(size, int) and size >= 1):
        raise DataError(f"size={size} must be an integer of at least 1, the side of square images")
    if conditions and kind not in ("npz", "latents"):
        raise DataError(
            f"--conditions {' '.join(conditions)}: only npz: files have further arrays, not {name}"
        )
    if name == "digits" or kind in WHOLE:
        return _whole(name, kind, rest, folder, split, size, conditions)
    if name in ("mnist", "fashion_mnist"):
        found = _idx_folder(name, folder)
        if found is not None:
            return idx.load(found, split)
    cut = TFDS.get(name, Cut())
    return tfds.load(rest or name, folder, split=split, crop=cut.crop, size=size or cut.size)


def splits(name: str, folder: str | Path | None = None) -> tuple[str, ...]:
    """Returns the names of the splits that exist: `train`, in most cases `test`, and possibly others.

    Raises:
        DataError: as in `load`.
    """
    folder = None if folder is None else Path(folder).expanduser()
    kind, rest = _parts(name)
    if name == "digits" or kind in WHOLE:
        return ("train",)
    if name in ("mnist", "fashion_mnist"):
        found = _idx_folder(name, folder)
        if found is not None:
            return tuple(split for split in ("train", "test") if idx.has(found, split))
    return tfds.splits(rest or name, folder)


def _parts(name: str) -> tuple[str, str]:
    """Returns the parts of a name before and after the colon. Raises DataError for an unknown name."""
    kind, _, rest = name.partition(":")
    if name != "digits" and name not in TFDS and not (kind in (*WHOLE, "tfds") and rest):
        path = Path(name).expanduser()
        meant = (
            f"npz:{name}"
            if path.is_file()
            else f"folder:{name}"
            if name and path.is_dir()
            else f"one of {NAMES}"
        )
        raise DataError(f"data set {name!r} is not known: use {meant}")
    return kind, rest


def _whole(
    name: str,
    kind: str,
    path: str,
    folder: Path | None,
    split: str,
    size: int | None,
    conditions: tuple[str, ...],
) -> Dataset:
    """Returns a data set without splits, which has only one place."""
    if folder is not None:
        raise DataError(f"{name} is not looked for in another folder; leave {folder} out")
    if split not in ("train", "all"):
        raise DataError(f"{name} has no split {split!r}; it is all train")
    if name == "digits":
        return arrays.digits()
    if kind == "random":
        return arrays.random_images(_shape(path))
    return (
        arrays.from_npz(path, conditions=conditions, latents=kind == "latents")
        if kind in ("npz", "latents")
        else load_folder(Path(path).expanduser(), size=size)
    )


def _shape(text: str) -> tuple[int, int, int]:
    """Returns the sizes in HxWxC. Raises DataError unless they are three positive whole numbers."""
    sizes = text.split("x")
    if len(sizes) != 3 or not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise DataError(f"random:{text} is no size of images: use random:HxWxC, such as random:32x32x3")
    return tuple(map(int, sizes))


def _idx_folder(name: str, folder: Path | None) -> Path | None:
    """Returns the folder of the IDX files, or None. Raises DataError if no Fashion-MNIST is found at all."""
    debian = name == "fashion_mnist" and folder is None
    place = FASHION_MNIST if debian else folder
    if place is not None and any(idx.has(place, split) for split in ("train", "test")):
        return place
    if debian and tfds.find(name) is None:
        command = tfds.PREPARE.format(name=name, where="")
        raise DataError(
            f"no data set 'fashion_mnist' in {place} or {tfds.home()}: "
            f"get it with apt install dataset-fashion-mnist, or with {command}"
        )
    return None

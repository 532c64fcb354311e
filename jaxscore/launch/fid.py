"""--inception: the FID of the samples, in the features in which papers report it.

Samples and reference images are rounded alike to 8 bits. The reference is the experiment's own data, or the
statistics in the file of --fid-reference. Statistics of the data are kept in workdir/fid_reference.npz, as
pytorch-fid and EDM keep them, so that they are computed once and other runs can name the file.
"""

import contextlib
import functools
import hashlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxscore import data
from jaxscore.launch import console, export, programs
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.flags import FlagError, require
from jaxscore.launch.signals import Interrupted, Signals
from jaxscore.metrics import inception

KEY = "inception"
"""Entry of metrics.json with the FIDs, how they were computed, and the lines below the table."""

PUBLISHED = "pt_inception-2015-12-05-6726825d.pth"
"""Name of the file of weights that pytorch-fid distributes."""

PAPERS = 50_000
"""Number of samples with which papers report the FID."""

MEASURED: dict[str, inception.Statistics] = {}
"""Statistics of the data that this process has computed, by `made_from`: several runs may share the data."""


def require_inputs(experiment: Experiment, mesh: jax.sharding.Mesh) -> None:
    """Raises FlagError if --inception is given and the FID cannot be computed; reads the flags' files."""
    config = experiment.config
    if config.inception is None:
        return
    drawn = [programs.drawn(experiment, name, mesh) for name in experiment.samplers]
    shapes = [leaf.shape[1:] for leaf in jax.tree.leaves(drawn)]
    named = ", ".join(str(list(shape)) for shape in shapes)
    remedy = f"samples of shape {named} are no images [h, w, 1] or [h, w, 3]; leave the flag out"
    require(any(map(inception.is_image, shapes)), "inception", config.inception, remedy)
    require(config.samples >= 2, "samples", config.samples, "must be at least 2 with --inception")
    with _named("inception", config.inception, f"give pytorch-fid's file {PUBLISHED}"):
        inception.features(config.inception)
    if config.fid_reference is None:
        _require_reference(experiment)
    else:
        _given(config.fid_reference)


def judge(
    experiment: Experiment, samples: dict[str, np.ndarray], folder: Path, signals: Signals | None = None
) -> dict[str, Any]:
    """Returns the entry KEY of metrics.json: `samplers` has the FID of each array of images, by its name.

    The FID is None if a sample is not finite. Raises Interrupted after a signal.
    """
    config = experiment.config
    features, reference = _features(config.inception), _reference(experiment, folder, signals)
    images = {name: x for name, x in samples.items() if inception.is_image(x.shape[1:])}
    found, clipped = {}, {}
    for name, x in images.items():
        found[name] = None
        if np.isfinite(x).all():
            ours = _measured(x, features, f"Inception features of {name}", signals)
            found[name] = inception.fid(ours, reference)
        clipped[name] = float(np.mean((x < 0) | (x > 1)))
    first = next(iter(images.values()))
    settings = {
        "method": inception.METHOD,
        "weights": _digest(config.inception)[:8],
        "n": len(first),
        "reference_n": reference.n,
        "reference": str(config.fid_reference or "the data"),
        "grey_repeated": first.shape[-1] == 1,
        "clipped": clipped,
    }
    return {
        "samplers": found,
        "settings": settings,
        "notes": _notes(settings),
        "made_from": made_from(experiment),
    }


def made_from(experiment: Experiment) -> str:
    """Returns what the FID depends on besides the samples: hashes of the weights and of the reference."""
    config = experiment.config
    if config.fid_reference is not None:
        return f"{_digest(config.inception)} {_digest(config.fid_reference)}"
    images = _images(experiment)
    return f"{_digest(config.inception)} {data.fingerprint(data.Dataset(images, np.zeros(0, np.int32)))}"


def entered(found: dict[str, Any], judged: dict[str, Any]) -> dict[str, Any]:
    """Returns the metrics with the entry KEY, and with `fid` in the dictionary of each array of samples.

    These dictionaries are found[NAME] or found["samplers"][NAME]; metrics without them get KEY alone.
    """
    rows = found.get("samplers", found)
    rows = rows if isinstance(rows, dict) else {}
    for name, value in judged["samplers"].items():
        if isinstance(rows.get(name), dict):
            rows[name]["fid"] = value
    return {**found, KEY: judged}


def lines(found: dict[str, Any], heading: tuple[str, ...]) -> list[str]:
    """Returns the lines below the table: how the FID was computed, and its values if no column has them."""
    judged = found.get(KEY)
    if judged is None:
        return []
    shown = {name: "not finite" if x is None else f"{x:.3f}" for name, x in judged["samplers"].items()}
    values = [f"FID: {', '.join(f'{name} {text}' for name, text in shown.items())}"]
    return ([] if "FID" in heading else values) + judged["notes"]


def _notes(settings: dict[str, Any]) -> list[str]:
    n, m = settings["n"], settings["reference_n"]
    grey = "; grey images repeated to three channels" if settings["grey_repeated"] else ""
    reference = f"{'an unknown number of' if m is None else f'{m:,}'} images of {settings['reference']}"
    found = [
        f"FID: {settings['method']}{grey}; weights {settings['weights']}; {n:,} samples against {reference}"
    ]
    few = f"FID: far too large, because there are no more than {inception.FEATURES:,} samples or images"
    if min(n, m or n) <= inception.FEATURES:
        found.append(few)
    elif n < PAPERS:
        found.append(f"FID: papers have {PAPERS:,} samples; fewer samples make it larger")
    for name, fraction in settings["clipped"].items():
        if fraction > 0.01:
            found.append(f"FID: {fraction:.0%} of the pixels of {name} lay outside 0..1 and were clipped")
    return found


# The reference ------------------------------------------------------------------------------------


def _reference(experiment: Experiment, folder: Path, signals: Signals | None) -> inception.Statistics:
    """Returns the statistics that the samples are compared with; those of the data are kept in the folder."""
    config, path = experiment.config, folder / "fid_reference.npz"
    if config.fid_reference is not None:
        return _given(config.fid_reference)
    origin = made_from(experiment)
    stored = _stored(path, origin)
    if stored is not None:
        return stored
    if origin not in MEASURED:
        what = "Inception features of the data"
        MEASURED[origin] = _measured(_images(experiment), _features(config.inception), what, signals)
    inception.save(path, MEASURED[origin], made_from=np.array(origin))
    return MEASURED[origin]


def _stored(path: Path, origin: str) -> inception.Statistics | None:
    """Returns the statistics in the file if they were made from the same weights and data, else None."""
    try:
        with np.load(path, allow_pickle=False) as file:
            same = str(file["made_from"]) == origin
        return inception.read(path) if same else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _given(path: Path) -> inception.Statistics:
    with _named("fid_reference", path, "give an .npz file with mu and sigma of Inception features"):
        return inception.read(path)


def _images(experiment: Experiment) -> data.Examples | None:
    """Returns the images that the samples are compared with, or None if the experiment names none."""
    if experiment.reference is not None:
        return experiment.reference
    return None if experiment.data is None else experiment.data.examples


def _require_reference(experiment: Experiment) -> None:
    images, flag = _images(experiment), experiment.config.inception
    remedy = "give --fid-reference FILE"
    require(images is not None, "inception", flag, f"the experiment has no `data` to compare with; {remedy}")
    fits = inception.is_image(images.shape[1:]) and len(images) >= 2
    reason = f"data of shape {list(images.shape)} are not two or more images [h, w, 1] or [h, w, 3]"
    require(fits, "inception", flag, f"{reason}; {remedy}")
    some = data.pixels.unit(np.asarray(images[:64]))
    low, high = float(some.min()), float(some.max())
    reason = f"the data have pixels from {low:g} to {high:g}, and must have bytes or pixels in 0..1"
    require(low >= 0 and high <= 1, "inception", flag, f"{reason}; {remedy}")


# Features -----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def _features(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The network with the weights of the file; it is kept, because each new one is compiled again."""
    return inception.features(path)


def _measured(
    images: data.Examples, features: Callable, what: str, signals: Signals | None
) -> inception.Statistics:
    """Returns the statistics of the images, which are bytes or in 0..1, rounded to 8 bits."""
    devices = jax.local_device_count()
    size = inception.BATCH * devices * -(-4 // devices)  # whole batches, and at least four of a device

    def parts() -> Iterator[np.ndarray]:
        for start in console.in_turn(range(0, len(images), size), f"{what}, by {size}"):
            # Not signals.stop(), which all processes must call: only the first one is here.
            if signals and signals.received:
                raise Interrupted("stopped while computing the FID")
            chunk = data.pixels.unit(np.asarray(images[start : start + size]))
            yield features(export.as_bytes(chunk))

    return inception.statistics(parts())


def _digest(path: Path) -> str:
    """SHA-256 of the file; the number in the published file's name are its first digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _named(name: str, path: Path, remedy: str) -> Iterator[None]:
    """Within, an error of the file becomes a FlagError that names the flag and the file."""
    try:
        yield
    except FlagError:
        raise
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        require(False, name, path, f"{reason}; {remedy}")

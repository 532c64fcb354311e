"""Recognises whose weights a file or folder holds, by its content.

description, params = read("edm2-img512-s-2147483-0.130.pkl")
score, network = build(description)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxscore.importers import diffusers, edm, pickles, safetensors, score_sde
from jaxscore.importers.description import Description
from jaxscore.types import Params

FAMILIES = "NCSN, NCSNv2, EDM, EDM2, score_sde, diffusers, and folders of this library"


class Found(NamedTuple):
    """Whose weights a file holds, and what has been read of the file."""

    family: str
    """edm, score_sde, ncsn, diffusers or safetensors: the module of `jaxscore.importers`"""
    content: Any = None
    """What `pickles.read` returns, for a pickle."""


def recognise(path: str | Path) -> Found:
    """Returns whose weights the file or folder holds.

    Raises ValueError, in one line, if it is damaged, or holds other weights or none; OSError if it cannot be
    read.
    """
    path = Path(path)
    if path.is_dir() or path.suffix in (".safetensors", ".json", ".bin"):
        folder = path if path.is_dir() else path.parent
        own = folder / safetensors.CONFIG
        is_ours = own.is_file() and "_class_name" not in safetensors.config(own)
        return Found("safetensors" if is_ours else "diffusers")
    content = pickles.read(path)
    if edm.is_snapshot(content):
        return Found("edm", content)
    if score_sde.is_checkpoint(content):
        return Found("score_sde", content)
    if state_dicts(content):
        return Found("ncsn", content)
    raise ValueError(f"{path}: {_seems(content)}; known are the weights of {FAMILIES}")


def read(path: str | Path, *, average: bool = True, side: int | None = None) -> tuple[Description, Params]:
    """Returns the description of the weights in a file or folder, and the parameters.

    Args:
        path: the file or folder.
        average: False for the parameters of the last step, where a file has both.
        side: of the images, for files that do not have it.

    Raises ValueError and OSError as `recognise` does, and ValueError for weights of NCSN and NCSNv2, whose
    network a file does not describe (`ncsn`).
    """
    found = recognise(path)
    if found.family == "edm":
        return edm.from_content(found.content, path)
    if found.family == "score_sde":
        return score_sde.from_content(found.content, path, average=average, side=side)
    if found.family == "ncsn":
        raise ValueError(f"{path}: it holds NCSN or NCSNv2; give its network to importers.ncsn.params")
    return (diffusers if found.family == "diffusers" else safetensors).read(path)


def state_dicts(content: Any) -> list[dict[str, Any]]:
    """Returns the state dicts of NCSN or NCSNv2 in a file, the average last; without the prefix `module.`."""
    parts = list(content) if isinstance(content, list | tuple) else [content]
    plain = lambda part: {str(name).removeprefix("module."): value for name, value in part.items()}
    found = [plain(part) for part in parts if isinstance(part, Mapping)]
    return [part for part in found if "begin_conv.weight" in part]


def _seems(content: Any) -> str:
    """What weights that are not known seem to be."""
    if not isinstance(content, Mapping):
        return f"it holds {type(content).__name__}, and no weights by name"
    if {"state", "param_groups"} <= content.keys():
        return "it is the state of an optimiser, and no network"
    tensors = sum(isinstance(value, pickles.Tensor) for value in content.values())
    names = ", ".join(map(str, list(content)[:3]))
    return f"it holds {tensors or 'no'} tensors of a network that is not known ({names}, ...)"

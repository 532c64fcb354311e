"""Weights of this library as files that anybody can read: config.json and model.safetensors in a folder.

    save("weights", description, params)
    score, network, params = load("weights")                  # score(params, x, sigma, condition=None)

model.safetensors has the parameters as float32, each by its path: "params/down1/conv0/kernel". config.json
has the description of the network (`Description`), or what else the weights need to be understood. Needs the
extra `weights`: pip install 'jaxscore[weights]'.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxscore.importers.description import Description, as_json, build, from_json
from jaxscore.importers.weights import Weight, fill, flattened
from jaxscore.types import ParametricScore, Params

CONFIG, ARRAYS = "config.json", "model.safetensors"
"""Names of the files in the folder."""

NARROW = (np.float16, jnp.bfloat16)
TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}
TYPES |= {"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_}


def save(folder: str | Path, description: Description | Mapping[str, Any], params: Params) -> list[Path]:
    """Writes the parameters and their description; returns the two files.

    Args:
        folder: a folder, which is made.
        description: what `load` needs to make a score; or a dictionary for JSON, if there is no description.
        params: a pytree of arrays in dictionaries. Floats of 16 bits become float32.

    Raises:
        ImportError: if the library safetensors is not installed.
        OSError: if the folder cannot be written.
    """
    library, folder = _library(), Path(folder)
    content = as_json(description) if isinstance(description, Description) else dict(description)
    text = json.dumps(content, indent=2) + "\n"
    flat = flattened(params)
    # Some releases of the library write arrays that are not in C order wrongly.
    arrays = {name: np.array(_wide(np.asarray(array)), order="C") for name, array in flat.items()}
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / ARRAYS, library.numpy.save(arrays, {"format": "jaxscore"}))
    _replace(folder / CONFIG, text.encode())
    return [folder / CONFIG, folder / ARRAYS]


def load(folder: str | Path) -> tuple[ParametricScore, Any, Params]:
    """Returns score(params, x, sigma, condition=None), the network, and the parameters, as `save` has them.

    Raises ValueError, in one line, if a file is damaged, describes no network, or does not fit its network;
    ImportError if the library safetensors is not installed, and OSError if a file cannot be read.
    """
    description, params = read(folder)
    return *build(description), params


def read(folder: str | Path) -> tuple[Description, Params]:
    """Returns the description in the folder and the parameters. Raises what `load` raises."""
    folder = Path(folder)
    try:
        description = from_json(config(folder / CONFIG))
        found = arrays(folder / ARRAYS)
        flat = {name.removeprefix("params/"): Weight(name, value) for name, value in found.items()}
        _, network = build(description)
        return description, fill(network, description.event, flat)
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(folder)) else f"{folder}: {text}") from None


def config(path: Path) -> dict[str, Any]:
    """Returns the dictionary in a JSON file. Raises ValueError if it is damaged, OSError if it is absent."""
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: it is damaged ({error})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: it has {type(found).__name__}, and no settings by name")
    return found


def arrays(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays in a safetensors file by name; those of 16 bits as float32.

    Raises ValueError if the file is damaged or has numbers of another type, ImportError if the library
    safetensors is not installed, OSError if the file cannot be read.
    """
    library, data = _library(), path.read_bytes()
    try:
        stored = library.deserialize(data)
    except Exception as error:  # the library's own type of error
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"{path}: it is damaged, or no safetensors file ({reason})") from None
    found = {}
    for name, each in stored:
        if each["dtype"] not in TYPES:
            raise ValueError(f"{path}: {name} has numbers of type {each['dtype']}")
        array = np.frombuffer(each["data"], TYPES[each["dtype"]]).reshape(each["shape"])
        found[name] = _wide(array)
    return found


def _wide(array: np.ndarray) -> np.ndarray:
    """Returns floats of 16 bits as float32, and other arrays as they are."""
    return array.astype(np.float32) if array.dtype in NARROW else array


def _replace(path: Path, data: bytes) -> None:
    """Writes to a temporary file, then renames it, so that a reader sees the old or the new file."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def _library() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError("safetensors files need safetensors: pip install 'jaxscore[weights]'") from None
    return safetensors

"""Parameters of the Inception network of the FID, from the weights that pytorch-fid distributes.

    params = load("pt_inception-2015-12-05-6726825d.pth")
    features = Inception().apply(params, images)                # pixels in 0..255

A batch norm in inference form is affine, so it becomes part of the convolution before it:

    kernel = weight gamma / sqrt(variance + 0.001),    bias = beta - mean gamma / sqrt(variance + 0.001)
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxscore.importers import pickles
from jaxscore.networks.inception import Inception
from jaxscore.types import Params

EPSILON = 1e-3
"""What the batch norms add to the variance."""

UNUSED = ("fc.", "AuxLogits.")
"""First letters of the entries of the two classifiers, which the FID does not use."""


def params(state: Mapping[str, np.ndarray]) -> Params:
    """Parameters for Inception().apply, read from a PyTorch state dict of arrays.

    The layer NAME is made from NAME.conv.weight, NAME.bn.weight, NAME.bn.bias, NAME.bn.running_mean and
    NAME.bn.running_var. Counters of batches and the classifiers `fc` and `AuxLogits` are ignored.

    Raises:
        ValueError: if entries are missing, are left over, or have another shape; the message names the
            entries.
    """
    state = {name: value for name, value in state.items() if not _is_unused(name)}
    x = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    layers = jax.eval_shape(Inception().init, jax.random.key(0), x)["params"]
    wanted = {}
    for name, layer in layers.items():
        height, width, inputs, features = layer["kernel"].shape
        wanted[f"{name}.conv.weight"] = (features, inputs, height, width)
        wanted |= {f"{name}.bn.{part}": (features,) for part in ("weight", "bias")}
        wanted |= {f"{name}.bn.running_{part}": (features,) for part in ("mean", "var")}
    _require(state, wanted)
    return {"params": {name: _folded(state, name) for name in layers}}


def load(path: str | Path) -> Params:
    """Parameters for Inception().apply, from the file that pytorch-fid distributes, which is a state dict.

    The file is read by `pickles`, which executes nothing in it. An .npz file of the same arrays is read too.

    Raises:
        ValueError: if the file cannot be read, or as `params`.
        OSError: if there is no such file.
    """
    return params(_read(Path(path)))


def _read(path: Path) -> Mapping[str, np.ndarray]:
    """Returns the arrays in the file by name. Raises ValueError and OSError."""
    path.stat()  # an absent file is an OSError, whatever its name
    if path.suffix != ".npz":
        state = pickles.read(path)
        if not isinstance(state, Mapping) or not all(isinstance(v, pickles.Tensor) for v in state.values()):
            raise ValueError("not the Inception network of pytorch-fid: the file is no state dict")
        return {str(name): pickles.array(value) for name, value in state.items()}
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        raise ValueError("not an .npz file of NumPy arrays") from None


def _is_unused(name: str) -> bool:
    return name.startswith(UNUSED) or name.endswith("num_batches_tracked")


def _require(state: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError, which names the entries, unless the state has the wanted names and shapes."""
    shared = state.keys() & wanted.keys()
    shaped = {name for name in shared if np.shape(state[name]) != wanted[name]}
    faults = {"lacks": wanted.keys() - shared, "has unknown": state.keys() - shared, "has misshapen": shaped}
    named = [f"{fault} {_few(sorted(names))}" for fault, names in faults.items() if names]
    if named:
        raise ValueError(f"not the Inception network of pytorch-fid: the file {', '.join(named)}")


def _few(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _folded(state: Mapping[str, np.ndarray], name: str) -> dict[str, jax.Array]:
    read = lambda part: np.asarray(state[f"{name}.{part}"], np.float64)
    scale = read("bn.weight") / np.sqrt(read("bn.running_var") + EPSILON)
    kernel = read("conv.weight").transpose(2, 3, 1, 0) * scale
    bias = read("bn.bias") - read("bn.running_mean") * scale
    return {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}

"""What the published networks return, for weights that a rule makes: the files in parity/."""

import json
import math
import zlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxscore.importers import pickles

PARITY = Path(__file__).parent / "parity"


def rule(name: str, shape: list[int], kind: str) -> np.ndarray:
    """The weights with this name, as in the published network that was evaluated."""
    w = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(shape))
    scaled = {
        "matrix": lambda w: w / math.sqrt(math.prod(shape[1:])),
        "norm": lambda w: 1 + 0.1 * w,
        "bias": lambda w: 0.1 * w,
        "gain": lambda w: 0.5 + 0.1 * w,
        "matrix_relu": lambda w: w * math.sqrt(2 / math.prod(shape[1:])),
        "running_var": lambda w: 0.5 + np.abs(w),
        "fourier16": lambda w: 16 * w,
        "fourier2pi": lambda w: 2 * math.pi * w,
    }
    return np.asarray(scaled[kind](w), np.float32)


def read(case: str, folder: Path = PARITY) -> tuple[dict[str, np.ndarray], dict, dict[str, np.ndarray]]:
    """Arrays with channels last, the description, and the state dict."""
    with np.load(folder / f"{case}.npz") as file:
        arrays = {name: file[name] for name in file.files}
    about = json.loads(arrays.pop("meta.json").item())
    state = {name: rule(name, shape, kind) for name, shape, _, kind in about["state"] if kind in KINDS}
    last = lambda a: jnp.asarray(a.transpose(0, 2, 3, 1) if a.ndim == 4 else a)
    return {name: last(array) for name, array in arrays.items()}, about, state


def exact(case: str, name: str) -> np.ndarray:
    """The array in float64, with channels last."""
    with np.load(PARITY / f"{case}.npz") as file:
        return file[name].transpose(0, 2, 3, 1)


KINDS = ("matrix", "norm", "bias", "gain", "fourier16", "fourier2pi", "matrix_relu", "running_var")


def tensor(w: np.ndarray) -> pickles.Tensor:
    """The array as the reader of pickles finds it in a file."""
    strides = tuple(stride // w.itemsize for stride in w.strides)
    return pickles.Tensor(pickles.Storage(w.dtype, w.ravel(order="K")), 0, w.shape, strides)


def record(class_name: str, settings: dict, state: dict[str, np.ndarray]) -> pickles.Record:
    """A module with these parameters, as pickles of EDM have it."""
    own = {name: tensor(w) for name, w in state.items() if "." not in name}
    parts: dict[str, dict] = {}
    for name, w in state.items():
        if "." in name:
            first, rest = name.split(".", 1)
            parts.setdefault(first, {})[rest] = w
    modules = {name: record("Module", {}, part) for name, part in parts.items()}
    state = {"_parameters": own, "_buffers": {}, "_modules": modules}
    return pickles.Record(class_name, {**state, "_init_args": (), "_init_kwargs": settings})


OUTER = ("use_fp16", "sigma_min", "sigma_max", "sigma_data", "model_type", "logvar_channels")


def snapshot(about: dict, state: dict[str, np.ndarray]) -> dict:
    """The content of a snapshot of the network that was evaluated."""
    settings = about["constructor"]["kwargs"]
    whole = record(about["constructor"]["class"], settings, state)
    (name,) = whole.state["_modules"].keys() & {"model", "unet"}
    inner = {key: value for key, value in settings.items() if key not in OUTER}
    if name == "model":
        inner["in_channels"] = inner.pop("img_channels")
    kind = settings.get("model_type", "UNet")
    part = whole.state["_modules"][name]
    whole.state["_modules"][name] = part._replace(
        class_name=kind, state={**part.state, "_init_kwargs": inner}
    )
    return {"ema": whole}

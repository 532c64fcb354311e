"""Snapshots of EDM and EDM2, in the pickles that NVIDIA's code writes.

    score, network, params = load("edm-cifar10-32x32-cond-vp.pkl")
    score(params, x, sigma, condition=labels)                 # x = x0 + sigma n, images in -1..1

The snapshot `ema` becomes `UNet` (SongUNet), `ADM` (DhariwalUNet) or `EDM2`. Its class says the
preconditioning: EDMPrecond, VPPrecond, VEPrecond, iDDPMPrecond, or EDM2's Precond. Class numbers are integers
[b]; the number n_classes means "no class". EDM2 snapshots of latents are scores of latents, [h, w, 4].
Nothing in the file is executed (`pickles`).

Source: Karras et al. 2022, tables 1 and 7; Karras et al. 2024.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxscore.importers import pickles
from jaxscore.importers.description import Description, build, iddpm_levels
from jaxscore.importers.weights import Weight, fill, honoured, kernel, renamed, side_by_side
from jaxscore.networks import edm2
from jaxscore.types import ParametricScore, Params

U_NET = {"model_channels": 128, "channel_mult": [1, 2, 2, 2], "num_blocks": 4, "attn_resolutions": [16]}
U_NET |= {"label_dim": 0, "augment_dim": 0, "dropout": 0.1, "embedding_type": "positional"}
U_NET |= {"channel_mult_noise": 1, "encoder_type": "standard", "decoder_type": "standard"}
U_NET |= {"resample_filter": [1, 1]}
ADM = {"model_channels": 192, "channel_mult": [1, 2, 3, 4], "num_blocks": 3, "attn_resolutions": [32, 16, 8]}
ADM |= {"label_dim": 0, "augment_dim": 0, "dropout": 0.1}
EDM2 = {"model_channels": 192, "channel_mult": [1, 2, 3, 4], "num_blocks": 3, "attn_resolutions": [16, 8]}
EDM2 |= {"label_dim": 0, "dropout": 0.0, "channels_per_head": 64}

SETTINGS = {
    # class in the file: our network, its settings with the published defaults
    "SongUNet": ("UNet", U_NET),
    "DhariwalUNet": ("ADM", ADM),
    "UNet": ("EDM2", EDM2),
}

FIXED = {"channel_mult_emb": (4, None), "label_balance": (0.5,), "concat_balance": (0.5,)}
FIXED |= {"res_balance": (0.3,), "attn_balance": (0.3,), "clip_act": (256,)}
"""Settings of EDM and EDM2 for which our networks have one value."""

OURS = {"model_channels": "channels", "num_blocks": "blocks", "label_dim": "classes", "dropout": "dropout"}
OURS |= {"augment_dim": "augmentations", "embedding_type": "embedding", "encoder_type": "encoder"}
OURS |= {"channel_mult_noise": "noise_multiplier", "decoder_type": "decoder", "channels_per_head": "head"}

LAYERS = {"map_noise": "waves", "map_label": "label", "map_augment": "augment", "out_norm": "out_norm0"}
LAYERS |= {"map_layer0": "layer0", "map_layer1": "layer1", "out_conv": "out0"}
LAYERS |= {"emb_fourier": "waves", "emb_noise": "noise", "emb_label": "label"}

IN_A_BLOCK = {"norm2": "attention/norm", "qkv": "attention/qkv", "proj": "attention/proj"}
IN_A_BLOCK |= {"conv_res0": "conv0", "conv_res1": "conv1", "conv_skip": "skip", "emb_linear": "embedding"}
IN_A_BLOCK |= {"attn_qkv": "qkv", "attn_proj": "proj"}
IN_A_BLOCK |= {name: name for name in ("norm0", "norm1", "conv0", "conv1", "skip", "affine")}

BLOCKS = {
    r"enc\.{side}_conv": "in",
    r"enc\.{side}_down": "down{level}",
    r"enc\.{side}_block(\d+)": r"encoder{level}_\1",
    r"enc\.{side}_aux_(?:residual|skip)": "input{level}",
    r"dec\.{side}_in(\d+)": r"middle\1",
    r"dec\.{side}_up": "up{level}",
    r"dec\.{side}_block(\d+)": r"decoder{level}_\1",
    r"dec\.{side}_aux_norm": "out_norm{level}",
    r"dec\.{side}_aux_conv": "out{level}",
}


def load(path: str | Path) -> tuple[ParametricScore, Any, Params]:
    """Returns score(params, x, sigma, condition=None), the network, and the parameters.

    Raises ValueError, in one line, if the file is damaged, is none of these snapshots, or has a setting that
    our network does not have; OSError if it cannot be read.
    """
    description, params = read(path)
    return *build(description), params


def read(path: str | Path) -> tuple[Description, Params]:
    """Returns the description of a snapshot and its parameters. Raises what `load` raises."""
    return from_content(pickles.read(path), path)


def is_snapshot(content: Any) -> bool:
    """Whether this is the content of a pickle of EDM or EDM2."""
    return isinstance(content, dict) and isinstance(content.get("ema"), pickles.Record)


def from_content(content: Any, path: str | Path) -> tuple[Description, Params]:
    """Returns description and parameters, from what `pickles.read` returned for the file at `path`."""
    try:
        if not is_snapshot(content):
            raise ValueError("it has no network `ema`, as snapshots of EDM and EDM2 have")
        record = content["ema"]
        description = describe(record)
        (name,) = _networks(record)
        state = arrays(record.state["_modules"][name])
        _, network = build(description)
        return description, fill(network, description.event, named(state, description))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None


# The description ------------------------------------------------------------------------------


def describe(record: pickles.Record) -> Description:
    """Returns the description of a preconditioned network. Raises ValueError if it is not supported."""
    (name,) = _networks(record)
    inner = record.state["_modules"][name]
    given = settings(inner)
    network, known = SETTINGS[inner.class_name]
    side, channels = given.pop("img_resolution"), given.pop("img_channels", None) or given.pop("in_channels")
    if given.pop("out_channels", channels) not in (channels, 2 * channels):
        raise ValueError("its network has other channels in its output than in its input")
    given.pop("label_dropout", None)  # of training
    found = honoured(given, known, FIXED, inner.class_name)
    multipliers = tuple(found.pop("channel_mult"))
    attention = found.pop("attn_resolutions")
    fields = {"multipliers": multipliers}
    fields["attention"] = tuple(i for i in range(len(multipliers)) if side >> i in attention)
    if "resample_filter" in found:
        fields["filter"] = tuple(found.pop("resample_filter"))
    fields |= {OURS[name]: value for name, value in found.items()}
    if record.class_name == "iDDPMPrecond":
        fields["outputs"] = 2 * channels
    kind, constants, sigmas = preconditioning(record)
    return Description(network, fields, kind, constants, (side, side, channels), *sigmas)


def preconditioning(record: pickles.Record) -> tuple[str, dict[str, Any], tuple[float, float]]:
    """Returns name and constants of the preconditioning, and the noise levels that its sampler visits.

    These are 0.002 to 80 as far as the network knows them. Raises ValueError if the class is not known.
    """
    given, kind = settings(record), record.class_name
    within = lambda low, high: (max(0.002, low), min(80.0, high))
    if kind in ("EDMPrecond", "Precond"):
        return "edm", {"sigma_data": float(given.get("sigma_data", 0.5))}, within(0.0, math.inf)
    if kind == "VEPrecond":
        return "ve", {}, within(given.get("sigma_min", 0.02), given.get("sigma_max", 100.0))
    if kind == "VPPrecond":
        low, slope = given.get("beta_min", 0.1), given.get("beta_d", 19.9)
        constants = {"beta_min": low, "beta_max": low + slope, "steps": given.get("M", 1000)}
        return "vp", constants, within(0.0, math.sqrt(math.expm1(low + slope / 2)))
    if kind == "iDDPMPrecond":
        constants = {"c_1": given.get("C_1", 0.001), "c_2": given.get("C_2", 0.008)}
        constants["steps"] = given.get("M", 1000)
        levels = iddpm_levels(**constants)
        return "iddpm", constants, within(float(levels[-2]), float(levels[0]))
    raise ValueError(f"the preconditioning {kind} is not known")


def settings(record: pickles.Record) -> dict[str, Any]:
    """Returns the keyword arguments of an object's constructor. Raises ValueError if there are others."""
    if record.state.get("_init_args"):
        raise ValueError(f"{record.class_name} was made with arguments that have no names")
    return dict(record.state["_init_kwargs"])


def _networks(record: pickles.Record) -> list[str]:
    """Returns the one name of the U-Net among the modules of a preconditioned network."""
    modules = record.state["_modules"]
    found = [name for name, each in modules.items() if getattr(each, "class_name", None) in SETTINGS]
    if len(found) != 1:
        kinds = ", ".join(sorted(str(getattr(each, "class_name", each)) for each in modules.values()))
        raise ValueError(f"{record.class_name} has {kinds or 'no network'}; known are {', '.join(SETTINGS)}")
    return found


# The arrays -----------------------------------------------------------------------------------


def arrays(module: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Returns parameters and buffers of a module and of the modules in it, by their names in PyTorch."""
    state = module.state if isinstance(module, pickles.Record) else vars(module)
    own = {**state.get("_parameters", {}), **state.get("_buffers", {})}
    found = {f"{prefix}{name}": pickles.array(each) for name, each in own.items() if each is not None}
    for name, each in state.get("_modules", {}).items():
        found |= arrays(each, f"{prefix}{name}.") if each is not None else {}
    return found


def named(state: Mapping[str, np.ndarray], description: Description) -> dict[str, Weight]:
    """Returns the arrays of a U-Net, with PyTorch's names, by our names.

    A level is named by its side in the file, and by its number here. The resampling filters are left out:
    they are a setting.
    """
    side, levels = description.event[0], range(len(description.fields["multipliers"]))
    blocks = [
        (old.format(side=f"{side >> level}x{side >> level}"), new.format(level=level))
        for level in levels
        for old, new in BLOCKS.items()
    ]
    rules = [*LAYERS.items(), *blocks]
    rules += [
        (rf"{old}\.{layer}", f"{new}/{ours}") for old, new in blocks for layer, ours in IN_A_BLOCK.items()
    ]
    kept = {name: w for name, w in state.items() if not name.endswith("resample_filter")}
    found = renamed(kept, rules)
    last = {"freqs": "frequencies", "emb_gain": "embedding_gain"}
    path = lambda name: "/".join([*name.split("/")[:-1], last.get(name.split("/")[-1], name.split("/")[-1])])
    found = {path(name): weight for name, weight in found.items()}
    attends = lambda name: name.split("/")[-2:-1] == ["qkv"]
    return {
        name: weight._replace(value=side_by_side(weight.value)) if attends(name) else weight
        for name, weight in found.items()
    }


def uncertainty(path: str | Path) -> tuple[Any, Params]:
    """Returns EDM2's network of the expected loss, u(params, c_noise[b]), and its parameters.

    c_noise is ln(sigma) / 4. Raises ValueError if the snapshot has no such network, or is none.
    """
    try:
        return uncertainty_of(pickles.read(path))
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def uncertainty_of(content: Any) -> tuple[Any, Params]:
    """Returns what `uncertainty` returns, from what `pickles.read` returned."""
    modules = content["ema"].state["_modules"] if is_snapshot(content) else {}
    if not {"logvar_fourier", "logvar_linear"} <= modules.keys():
        raise ValueError("it has no network of the expected loss")
    waves, linear = arrays(modules["logvar_fourier"]), arrays(modules["logvar_linear"])
    params = {"waves": {"frequencies": waves["freqs"], "phases": waves["phases"]}}
    params["out"] = {"kernel": kernel(linear["weight"])}
    return edm2.Uncertainty(len(waves["freqs"])).apply, {"params": params}

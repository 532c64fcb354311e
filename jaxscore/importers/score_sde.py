"""Checkpoints of Song et al. 2021 in PyTorch (score_sde_pytorch): NCSN++ and DDPM++, with their averages.

    score, network, params = load("checkpoint_24.pth")
    score(params, x, sigma)                                   # x = x0 + sigma n, images in -1..1

The file has no configuration. The modules have numbers, and their kinds and shapes tell the network:

    Fourier embedding           NCSN++ of the VE process, resampled by the filter (1, 3, 3, 1)
    positional embedding        DDPM++ of the VP process, resampled by means of blocks of two

The published configurations have it so, and the file does not tell other combinations apart. A file of the
sub-VP process looks like one of the VP process, and is read as one of the VP process.

Weights of the VE process were trained on images in 0..1, which the network itself maps to -1..1. The score
here is that of images in -1..1: x' = 2x - 1, sigma' = 2 sigma, score' = score / 2.

The averages are a list without names, in the order of the trainable parameters. The number and the shapes are
checked against the named parameters.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxscore.importers import pickles
from jaxscore.importers.description import Description, build
from jaxscore.importers.weights import Weight, fill, joined, listed, renamed
from jaxscore.types import ParametricScore, Params

DROPOUT = 0.1
"""Fraction of hidden units dropped in training, in all published configurations."""

BLOCK = {"GroupNorm_0": "norm0", "Conv_0": "conv0", "Dense_0": "affine", "GroupNorm_1": "norm1"}
BLOCK |= {"Conv_1": "conv1", "Conv_2": "skip"}
ATTENTION = {"GroupNorm_0": "norm", "NIN_0": "q", "NIN_1": "k", "NIN_2": "v", "NIN_3": "proj"}


class Module(NamedTuple):
    """A module of the network: its kind, and the numbers of channels of its input and output."""

    kind: str
    """fourier, dense, conv, norm, block, resampling (a block), attention, halved or added (input images)"""
    inputs: int = 0
    outputs: int = 0


def load(
    path: str | Path, *, average: bool = True, side: int | None = None
) -> tuple[ParametricScore, Any, Params]:
    """Returns score(params, x, sigma), the network, and the averaged parameters.

    Args:
        path: the .pth file.
        average: False for the parameters of the last step instead of their average.
        side: of the images, which the file does not have. By default the first level that attends has a side
            of 16, as in the published configurations.

    Raises ValueError, in one line, if the file is damaged, is none of these checkpoints, or holds another
    network; OSError if it cannot be read.
    """
    description, params = read(path, average=average, side=side)
    return *build(description), params


def read(path: str | Path, *, average: bool = True, side: int | None = None) -> tuple[Description, Params]:
    """Returns the description of a checkpoint and its parameters. Raises what `load` raises."""
    return from_content(pickles.read(path), path, average=average, side=side)


def is_checkpoint(content: Any) -> bool:
    """Whether this is the content of a checkpoint of score_sde_pytorch."""
    model = content.get("model") if isinstance(content, dict) else None
    return isinstance(model, dict) and any("all_modules." in str(name) for name in model)


def from_content(
    content: Any, path: str | Path, *, average: bool = True, side: int | None = None
) -> tuple[Description, Params]:
    """Returns description and parameters, from what `pickles.read` returned for the file at `path`."""
    try:
        if not is_checkpoint(content):
            raise ValueError("it has no `model` with the numbered modules of score_sde")
        named = {name.removeprefix("module."): pickles.array(each) for name, each in content["model"].items()}
        state = {name: w for name, w in named.items() if name.startswith("all_modules.")}
        if average:
            state |= averaged(state, content.get("ema"))
        description, places = describe(modules(state), named.get("sigmas"), side)
        _, network = build(description)
        return description, fill(network, description.event, placed(state, places))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, StopIteration) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None


def averaged(state: Mapping[str, np.ndarray], ema: Any) -> dict[str, np.ndarray]:
    """Returns the averages by the names of the trainable parameters, which are in the same order.

    The frequencies of the Fourier embedding, W, are not trained and have no average. Raises ValueError if
    there are no averages, or if their number or their shapes do not fit.
    """
    listing = ema.get("shadow_params") if isinstance(ema, dict) else None
    if not isinstance(listing, list):
        raise ValueError("it has no averages `ema.shadow_params`; ask for the parameters of the last step")
    values, names = [pickles.array(each) for each in listing], [name for name in state if not is_fixed(name)]
    pairs = list(zip(names, values, strict=False))
    other = [
        f"{name} {w.shape}, which is {state[name].shape}" for name, w in pairs if w.shape != state[name].shape
    ]
    missing = names[len(values) :]
    more = [f"entry {i} {w.shape}" for i, w in enumerate(values) if i >= len(names)]
    differences = {"without an average": missing, "left over": more, "of another shape": other}
    if any(differences.values()):
        text = f"it has {len(values)} averages for {len(names)} parameters"
        raise ValueError(f"{text}: {listed(differences)}")
    return dict(pairs)


def is_fixed(name: str) -> bool:
    """Whether the array with this name is not trained: the frequencies of the Fourier embedding."""
    return bool(re.fullmatch(r"all_modules\.\d+\.W", name))


# The network ----------------------------------------------------------------------------------


def modules(state: Mapping[str, np.ndarray]) -> dict[str, Module]:
    """Returns the modules by their numbers, in order. Raises ValueError for a kind that is not known."""
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, w in state.items():
        _, number, rest = name.split(".", 2)
        layers.setdefault(number, {})[rest] = w.shape
    return {number: _module(number, layers[number]) for number in sorted(layers, key=int)}


def _module(number: str, shapes: Mapping[str, tuple[int, ...]]) -> Module:
    names = {name.partition(".")[0] for name in shapes}
    if set(shapes) == {"W"}:
        return Module("fourier", outputs=2 * shapes["W"][0])
    if "weight" in shapes:
        rank, (outputs, *rest) = len(shapes["weight"]), shapes["weight"]
        return Module({1: "norm", 2: "dense", 4: "conv"}[rank], rest[0] if rest else outputs, outputs)
    if set(ATTENTION) == names:
        return Module("attention", *shapes["NIN_3.W"])
    if set(BLOCK) - {"Conv_2"} <= names <= set(BLOCK):
        outputs, inputs = shapes["Conv_0.weight"][:2]
        # Only a block that resamples has a convolution on its skip branch without need.
        return Module("resampling" if "Conv_2" in names and inputs == outputs else "block", inputs, outputs)
    if names == {"Conv2d_0"}:
        return Module("halved", shapes["Conv2d_0.weight"][1], shapes["Conv2d_0.weight"][0])
    if names == {"Conv_0"} and shapes["Conv_0.weight"][2:] == (1, 1):
        return Module("added", shapes["Conv_0.weight"][1], shapes["Conv_0.weight"][0])
    raise ValueError(f"module {number} is none of NCSN++ or DDPM++; it has {', '.join(sorted(names))}")


def describe(
    found: Mapping[str, Module], sigmas: np.ndarray | None = None, side: int | None = None
) -> tuple[Description, dict[str, tuple[str, Module]]]:
    """Returns the description of a network, and the name and module of ours for each number.

    Args:
        found: the modules by their numbers.
        sigmas: the noise levels in the file.
        side: of the images; see `load`.

    Raises:
        ValueError: if the modules are none of `UNet`'s.
    """
    kinds, sequence = [module.kind for module in found.values()], list(found.values())
    fourier = kinds[0] == "fourier"
    if kinds.count("dense") != 2 or kinds[fourier : fourier + 3] != ["dense", "dense", "conv"]:
        raise ValueError("its network is not NCSN++ or DDPM++ with an embedding of the noise level")
    stem, body = sequence[fourier + 2], sequence[fourier + 3 :]
    fields = {"channels": stem.outputs, "dropout": DROPOUT} | _levels(body, stem.outputs)
    if fourier:
        fields |= {"embedding": "fourier", "filter": (1, 3, 3, 1)}
        fields["noise_multiplier"] = sequence[0].outputs // stem.outputs
    names = order(fields)
    if len(names) != len(found):
        raise ValueError(f"its network has {len(found)} modules, and UNet with {fields} has {len(names)}")
    places = {number: (name, found[number]) for number, name in zip(found, names, strict=True)}
    side = side or 16 * 2 ** min(fields["attention"], default=1)
    event = (side, side, stem.inputs)
    if not fourier:
        return Description("UNet", fields, "vp", {}, event), places
    low, high = (0.02, 100.0) if sigmas is None else (2 * float(min(sigmas)), 2 * float(max(sigmas)))
    return Description("UNet", fields, "ve", {}, event, low, high), places


def _levels(body: Sequence[Module], channels: int) -> dict[str, Any]:
    """Returns the fields of `UNet` that the modules after the first convolution tell."""
    kinds = [module.kind for module in body]
    halvings = [i for i, kind in enumerate(kinds) if kind == "resampling"]
    levels = len(halvings) // 2 + 1
    # The first level ends where the sides are halved. A network of one level has n blocks on the way down, 2
    # below and n + 1 on the way up.
    blocks = kinds[: halvings[0]].count("block") if halvings else (kinds.count("block") - 3) // 2
    widths, attention, place = [], [], 0
    for level in range(levels):
        widths.append(body[place].outputs)
        attends = kinds[place + 1] == "attention"
        attention += [level] if attends else []
        place += blocks * (1 + attends)
        if level < levels - 1:
            place += 1 + (kinds[place + 1] in ("halved", "added"))
    inputs = {"halved": "residual", "added": "skip"}
    return {
        "multipliers": tuple(width // channels for width in widths),
        "blocks": blocks,
        "attention": tuple(attention),
        "encoder": next((inputs[kind] for kind in kinds if kind in inputs), "standard"),
        "decoder": "skip" if levels > 1 and kinds.count("norm") == levels else "standard",
    }


def order(fields: Mapping[str, Any]) -> list[str]:
    """Returns our names of the modules, in the order in which score_sde numbers them."""
    levels, last = range(len(fields["multipliers"])), len(fields["multipliers"]) - 1
    names = ["waves"] * (fields.get("embedding") == "fourier") + ["layer0", "layer1", "in"]
    for level in levels:
        for i in range(fields["blocks"]):
            block = f"encoder{level}_{i}"
            names += [block, f"{block}/attention"] if level in fields["attention"] else [block]
        if level < last:
            names += [f"down{level + 1}"] + [f"input{level + 1}"] * (fields["encoder"] != "standard")
    names += ["middle0", "middle0/attention", "middle1"]
    for level in reversed(levels):
        names += [f"decoder{level}_{i}" for i in range(fields["blocks"] + 1)]
        names += [f"{names[-1]}/attention"] if level in fields["attention"] else []
        if fields["decoder"] == "skip" or level == 0:
            names += [f"out_norm{level}", f"out{level}"]
        names += [f"up{level - 1}"] if level else []
    return names


def placed(state: Mapping[str, np.ndarray], places: Mapping[str, tuple[str, Module]]) -> dict[str, Weight]:
    """Returns the arrays by our names. The matrices NIN are [in, out], as ours are."""
    rules = []
    for number, (ours, module) in places.items():
        place = rf"all_modules\.{number}"
        layers = ATTENTION if module.kind == "attention" else BLOCK
        rules += [(rf"{place}\.{layer}", f"{ours}/{name}") for layer, name in layers.items()]
        rules += [(place, ours), (rf"{place}\.Conv2d_0", ours)]
        if module.kind == "added":
            rules.insert(0, (rf"{place}\.Conv_0", ours))
    last = {"W": "kernel", "b": "bias"}
    found = {}
    for name, weight in renamed(state, rules).items():
        layer, _, end = name.rpartition("/")
        end = "frequencies" if layer == "waves" else last.get(end, end)
        found[f"{layer}/{end}" if layer else end] = weight
    return joined(found)

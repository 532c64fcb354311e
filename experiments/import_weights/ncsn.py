"""Checkpoints of NCSN and NCSNv2 as runs of `experiments.ncsn`.

    python -m experiments.import_weights --checkpoint checkpoint.pth --workdir runs/published --preset cifar10

The file has the format of the authors' code: a list with the state dict first and the averaged parameters
last, or a plain state dict. `jaxscore.importers.ncsn` maps the names of the parameters.
"""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from experiments.import_weights.config import Config
from experiments.ncsn import experiment as ncsn
from experiments.ncsn.config import PRESETS
from experiments.ncsn.config import Config as NcsnConfig
from jaxscore import importers
from jaxscore.importers import pickles
from jaxscore.importers.families import state_dicts
from jaxscore.launch import Experiment
from jaxscore.launch.flags import FlagError, require
from jaxscore.types import Params


def imported(config: Config) -> tuple[Experiment, Params, int]:
    """Returns the experiment, the parameters and the step of the checkpoint.

    Raises FlagError if the checkpoint does not fit the preset, ValueError if it is damaged or no NCSN.
    """
    state, step = read(config.checkpoint, average=config.average)
    made = configuration(config, state, step)
    try:
        params = importers.ncsn.params(ncsn.score_network(made)[0], state)
    except ValueError as error:
        raise FlagError(f"--checkpoint {config.checkpoint}: {error}") from None
    return ncsn.build(made), params, made.steps


def read(path: Path, *, average: bool) -> tuple[dict[str, np.ndarray], int]:
    """Returns the state dict as arrays, and the step at which it was saved (0 if the file does not have it).

    Raises ValueError if the file is damaged, or has no state dict of NCSN or NCSNv2.
    """
    content = pickles.read(path)
    states = state_dicts(content)
    if not states:
        raise ValueError(f"{path}: holds no state dict of NCSN or NCSNv2 (no begin_conv.weight)")
    # The averaged parameters do not include the buffer of noise levels, which the first state dict has.
    state = {**states[0], **(states[-1] if average else {})}
    numbers = [part for part in content if isinstance(part, int)] if isinstance(content, list) else []
    return {name: pickles.array(value) for name, value in state.items()}, max(numbers, default=0)


def configuration(config: Config, state: dict[str, np.ndarray], step: int) -> NcsnConfig:
    """The preset, with the network and the noise levels of the state dict.

    Raises FlagError if the preset has another network or other channels, or if the levels are not geometric.
    """
    preset = PRESETS[config.preset]
    layers = {"deepest": "res31.0.conv1.weight", "deeper": "res5.0.conv1.weight"}
    stages = next((name for name, layer in layers.items() if layer in state), "small")
    network = "ncsn" if "normalizer.embed.weight" in state else "ncsnv2"
    remedy = f"is a recipe of {preset.network}, and {config.checkpoint} holds {network}"
    require(network == preset.network, "preset", config.preset, remedy)
    width, *channels = state["begin_conv.weight"].shape[:2]
    remedy = f"has images of {preset.shape[-1]} channels, and {config.checkpoint} of {sum(channels)}"
    require(channels == [preset.shape[-1]], "preset", config.preset, remedy)
    overrides: dict[str, Any] = {"network": network, "channels": width, "stages": stages, "ablate": False}
    overrides |= {"steps": step or preset.steps, "workdir": config.workdir, "mode": "sample"}
    if "sigmas" in state:
        sigmas = state["sigmas"]
        ratios = sigmas[1:] / sigmas[:-1]
        geometric = np.allclose(ratios, ratios[:1], rtol=1e-4)
        require(geometric, "checkpoint", config.checkpoint, "its noise levels are not geometric")
        # str gives 0.01 for the float32 next to 0.01; its value in double precision is 0.009999999776...
        first, last = (float(str(np.float32(sigma))) for sigma in (sigmas[0], sigmas[-1]))
        overrides |= {"levels": len(sigmas), "sigma_max": first, "sigma_min": last}
    elif network == "ncsn":
        overrides["levels"] = len(state["normalizer.embed.weight"])
    return dataclasses.replace(preset, **overrides)


def command(made: NcsnConfig) -> str:
    """Command that samples the run: the preset, and a flag for each value that differs from the preset."""
    folder, preset = shlex.quote(str(made.workdir)), PRESETS[made.preset]
    words = [f"python -m experiments.ncsn --preset {made.preset} --workdir {folder} --mode sample"]
    for name in (field.name for field in dataclasses.fields(made)):
        value = getattr(made, name)
        if name not in ("workdir", "mode", "ablate") and value != getattr(preset, name):
            words.append(f"--{name.replace('_', '-')} {value}")
    return " ".join([*words, *(["--no-ablate"] if preset.ablate else [])])

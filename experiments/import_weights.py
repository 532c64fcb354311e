"""Converts a PyTorch checkpoint of NCSN or NCSNv2 into a run of `experiments.ncsn` that can be sampled.

    pip install 'jaxscore[torch]'
    python -m experiments.import_weights --checkpoint checkpoint.pth --workdir runs/published --preset cifar10

The file has the format of the authors' code: a list with the state dict first and the averaged parameters
last, or a plain state dict. It is read by torch.load(weights_only=True), which does not execute any code from
the file. jaxscore/importers/ncsn.py maps the names of the parameters.
"""

import dataclasses
import importlib.util
import shlex
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.ncsn import experiment as ncsn
from experiments.ncsn.config import PRESETS
from experiments.ncsn.config import Config as NcsnConfig
from jaxscore import checkpoint, importers, launch, plan
from jaxscore.launch import console, programs, provenance, workdir
from jaxscore.launch.flags import FlagError, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Converts a PyTorch checkpoint of NCSN or NCSNv2 into a run that can be sampled."""

    checkpoint: Path
    """The .pth file."""
    workdir: Path
    """New folder for the run."""
    preset: str = "cifar10"
    """Preset of `experiments.ncsn`, for the Langevin steps and the data set of the evaluation."""
    average: bool = True
    """Use the averaged parameters, if the file has them."""

    def __post_init__(self):
        require(self.preset in PRESETS, "preset", self.preset, f"is not known; use {', '.join(PRESETS)}")
        require(self.checkpoint.is_file(), "checkpoint", self.checkpoint, "is no file")
        installed = importlib.util.find_spec("torch") is not None
        remedy = "is read with torch, which is not installed: pip install 'jaxscore[torch]'"
        require(installed, "checkpoint", self.checkpoint, remedy)


def read(path: Path, *, average: bool) -> tuple[dict[str, np.ndarray], int]:
    """The state dict as arrays, and the step at which it was saved (0 if the file does not have it).

    Raises FlagError if torch.load(weights_only=True) cannot read the file, or if it has no state dict.
    """
    import torch

    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises errors of many types
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        text = f"--checkpoint {path}: torch.load(weights_only=True) cannot read it: {reason}"
        raise FlagError(text) from None
    parts = list(stored) if isinstance(stored, list | tuple) else [stored]
    states = [part for part in parts if isinstance(part, dict) and "begin_conv.weight" in _plain(part)]
    require(bool(states), "checkpoint", path, "holds no state dict of NCSN or NCSNv2 (no begin_conv.weight)")
    # The averaged parameters do not include the buffer of noise levels, which the first state dict has.
    state = {**_plain(states[0]), **(_plain(states[-1]) if average else {})}
    numbers = [part for part in parts if isinstance(part, int)]
    return {name: value.numpy() for name, value in state.items()}, max(numbers, default=0)


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    return {str(name).removeprefix("module."): value for name, value in state.items()}


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


def run(config: Config) -> None:
    """Makes the folder of a finished run, with config.json and a checkpoint.

    Raises FlagError if the folder has a run, or if the checkpoint does not fit the preset, and Refusal if the
    folder cannot be used.
    """
    occupied = (config.workdir / "config.json").exists()
    require(not occupied, "workdir", config.workdir, "holds a run already; name another folder")
    state, step = read(config.checkpoint, average=config.average)
    made = configuration(config, state, step)
    experiment = ncsn.build(made)
    try:
        params = importers.ncsn.params(ncsn.score_network(made)[0], state)
    except ValueError as error:
        raise FlagError(f"--checkpoint {config.checkpoint}: {error}") from None
    description = provenance.describe(experiment, config.workdir)
    workdir.claim(config.workdir, description)
    state_of = lambda params: programs.init_state(experiment._replace(init=lambda key: params))
    begin = jax.jit(lambda key, params: state_of(params)(key))(jax.random.key(0), params)
    with checkpoint.manager(config.workdir / "checkpoints") as checkpoints:
        checkpoint.save(checkpoints, begin._replace(step=jnp.int32(made.steps)), wait=True)
    workdir.write_json(config.workdir / "config.json", description)
    count = plan.parameters(params)
    console.say(f"{count:,} parameters of {made.network}, step {made.steps}; to sample:\n{command(made)}")


def command(made: NcsnConfig) -> str:
    """Command that samples the run: the preset, and a flag for each value that differs from the preset."""
    folder, preset = shlex.quote(str(made.workdir)), PRESETS[made.preset]
    words = [f"python -m experiments.ncsn --preset {made.preset} --workdir {folder} --mode sample"]
    for name in (field.name for field in dataclasses.fields(made)):
        value = getattr(made, name)
        if name not in ("workdir", "mode", "ablate") and value != getattr(preset, name):
            words.append(f"--{name.replace('_', '-')} {value}")
    return " ".join([*words, *(["--no-ablate"] if preset.ablate else [])])


if __name__ == "__main__":
    launch.program(run, Config)

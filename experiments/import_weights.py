"""A PyTorch checkpoint of NCSN or NCSNv2 as a run of `experiments.ncsn`, ready to be sampled.

    pip install 'jaxscore[torch]'
    python -m experiments.import_weights --checkpoint checkpoint.pth --workdir runs/published --preset cifar10

The file is one that the authors' code saved: a list with the state dict first and the averaged
parameters last, or a plain state dict. It is read by torch.load(weights_only=True), which executes
nothing. How names map onto names is in jaxscore/importers/ncsn.py.
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
from jaxscore import checkpoint, importers, launch
from jaxscore.launch import console, flags, programs, workdir
from jaxscore.launch.flags import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which checkpoint, where to, and by which recipe it was trained."""

    checkpoint: Path
    """The .pth file."""
    workdir: Path
    """A new folder, for the run."""
    preset: str = "cifar10"
    """The recipe of `experiments.ncsn`: the Langevin steps, and the data to compare with."""
    average: bool = True
    """Take the averaged parameters, where the file has them."""

    def __post_init__(self):
        require(self.preset in PRESETS, "preset", self.preset, f"is not known; use {', '.join(PRESETS)}")
        require(self.checkpoint.is_file(), "checkpoint", self.checkpoint, "is no file")
        installed = importlib.util.find_spec("torch") is not None
        remedy = "is read with torch, which is not installed: pip install 'jaxscore[torch]'"
        require(installed, "checkpoint", self.checkpoint, remedy)


def read(path: Path, *, average: bool) -> tuple[dict[str, np.ndarray], int]:
    """The state dict as arrays, and the step it was saved at (0 if the file does not say).

    Raises FlagError if the file is not what torch.load(weights_only=True) reads, or holds no state dict.
    """
    import torch

    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what its parts raise
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise flags.FlagError(
            f"--checkpoint {path}: torch.load(weights_only=True) cannot read it: {reason}"
        ) from None
    parts = list(stored) if isinstance(stored, list | tuple) else [stored]
    states = [part for part in parts if isinstance(part, dict) and "begin_conv.weight" in _plain(part)]
    require(bool(states), "checkpoint", path, "holds no state dict of NCSN or NCSNv2 (no begin_conv.weight)")
    # The averages leave out the buffer of noise levels.
    state = {**_plain(states[0]), **(_plain(states[-1]) if average else {})}
    numbers = [part for part in parts if isinstance(part, int)]
    return {name: value.numpy() for name, value in state.items()}, max(numbers, default=0)


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def recipe(config: Config, state: dict[str, np.ndarray], step: int) -> NcsnConfig:
    """The preset with what the state dict says of the network and of the noise levels.

    Raises FlagError if the preset is of another network, or of images with other channels.
    """
    preset = PRESETS[config.preset]
    stages = (
        "deepest"
        if "res31.0.conv1.weight" in state
        else "deeper"
        if "res5.0.conv1.weight" in state
        else "small"
    )
    network = "ncsn" if "normalizer.embed.weight" in state else "ncsnv2"
    remedy = f"is a recipe of {preset.network}, and {config.checkpoint} holds {network}"
    require(network == preset.network, "preset", config.preset, remedy)
    width, *channels = state["begin_conv.weight"].shape[:2]
    remedy = f"has images of {preset.shape[-1]} channels, and {config.checkpoint} of {sum(channels)}"
    require(channels == [preset.shape[-1]], "preset", config.preset, remedy)
    found: dict[str, Any] = {
        "network": network,
        "channels": width,
        "stages": stages,
        "steps": step or preset.steps,
        "ablate": False,
    }
    if "sigmas" in state:
        sigmas = state["sigmas"]
        ratios = sigmas[1:] / sigmas[:-1]
        geometric = np.allclose(ratios, ratios[:1], rtol=1e-4)
        require(geometric, "checkpoint", config.checkpoint, "its noise levels are not geometric")
        # Through str: 0.01, and not what the float32 nearest to it is in double precision.
        first, last = (float(str(np.float32(sigma))) for sigma in (sigmas[0], sigmas[-1]))
        found |= {"levels": len(sigmas), "sigma_max": first, "sigma_min": last}
    elif network == "ncsn":
        found["levels"] = len(state["normalizer.embed.weight"])
    return dataclasses.replace(preset, workdir=config.workdir, mode="sample", **found)


def run(config: Config) -> None:
    """Make the folder of a finished run: config.json and a checkpoint."""
    occupied = (config.workdir / "config.json").exists()
    require(not occupied, "workdir", config.workdir, "holds a run already; name another folder")
    state, step = read(config.checkpoint, average=config.average)
    made = recipe(config, state, step)
    experiment = ncsn.build(made)
    try:
        params = importers.ncsn.params(ncsn.score_network(made)[0], state)
    except ValueError as error:
        raise flags.FlagError(f"--checkpoint {config.checkpoint}: {error}") from None
    description = workdir.describe(experiment.name, made)
    workdir.claim(config.workdir, description)
    state_of = lambda params: programs.init_state(experiment._replace(init=lambda key: params))
    begin = jax.jit(lambda key, params: state_of(params)(key))(jax.random.key(0), params)
    with checkpoint.manager(config.workdir / "checkpoints") as checkpoints:
        checkpoint.save(checkpoints, begin._replace(step=jnp.int32(made.steps)), wait=True)
    workdir.write_json(config.workdir / "config.json", description)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    console.say(f"{count:,} parameters of {made.network}, step {made.steps}; to sample:\n{command(made)}")


def command(made: NcsnConfig) -> str:
    """What samples the run: the preset, and whatever differs from it."""
    folder = shlex.quote(str(made.workdir))
    words = [f"python -m experiments.ncsn --preset {made.preset} --workdir {folder} --mode sample"]
    for field in dataclasses.fields(made):
        value = getattr(made, field.name)
        if field.name not in ("workdir", "mode", "ablate") and value != getattr(
            PRESETS[made.preset], field.name
        ):
            words.append(f"--{field.name.replace('_', '-')} {value}")
    return " ".join([*words, *(["--no-ablate"] if PRESETS[made.preset].ablate else [])])


def main() -> None:
    """Parse flags and run."""
    with launch.one_line_errors():
        config = flags.parse(Config)
        with launch.one_line_errors(config.workdir):
            run(config)


if __name__ == "__main__":
    main()

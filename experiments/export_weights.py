"""Exports the averaged weights of a run to safetensors, with a config.json that says what they are.

    python -m experiments.export_weights --run runs/digits --folder weights/digits

    score, network, params = importers.safetensors.load("weights/digits")

If the run's experiment describes its network (`Experiment.description`), the folder is all that anybody
needs to load the score, and experiments.import_weights makes a run of it again. Otherwise config.json has the
configuration of the run, and the arrays are loaded with `importers.safetensors.arrays`.
"""

import dataclasses
from pathlib import Path

import jax

from jaxscore import importers, launch, plan
from jaxscore.launch import Refusal, console, open_run, workdir
from jaxscore.launch.flags import require
from jaxscore.launch.open_run import find


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Exports the averaged weights of a run to safetensors."""

    run: Path = Path("runs/digits")
    """Folder of a trained run."""
    experiment: str | None = None
    """Module with the run's `build` and its configuration; experiments.NAME if it is not given."""
    folder: Path = Path("weights")
    """New folder for config.json and model.safetensors."""


def export(config: Config) -> list[Path]:
    """Writes the folder, and returns its two files.

    Raises FlagError if the folder has files already or safetensors is not installed, Refusal if there is no
    run, and CheckpointError.
    """
    taken = config.folder.is_file() or (config.folder.is_dir() and any(config.folder.iterdir()))
    require(not taken, "folder", config.folder, "exists already; name another folder")
    try:
        run = open_run(config.run, *find(config.run, config.experiment))
    except Refusal as error:
        raise Refusal(f"--run {error}") from None
    described = run.experiment.description
    description = described or workdir.read_json(config.run / "config.json")
    try:
        files = importers.safetensors.save(config.folder, description, jax.device_get(run.params))
    except ImportError as error:
        raise launch.FlagError(f"--folder {config.folder}: {error}") from None
    what = described.network if described else "parameters; the experiment does not describe its network"
    console.say(f"{plan.parameters(run.params):,} parameters of {what}, step {run.step}: {config.folder}")
    return files


if __name__ == "__main__":
    launch.program(export, Config(), folder="folder")

"""Published weights become a run: a folder that samples, evaluates and goes on training like any other.

    python -m experiments.import_weights --checkpoint edm-cifar10-32x32-cond-vp.pkl --workdir runs/edm
    python -m experiments.import_weights --workdir runs/edm --mode sample --samples 16
    python -m experiments.import_weights --workdir runs/edm --data cifar10 --steps 10000

Weights of EDM, EDM2, score_sde, diffusers and of this library (`jaxscore.importers`) become runs of
experiments.import_weights. Weights of NCSN and NCSNv2 become runs of experiments.ncsn. The content of the
file tells which of them it is, and nothing in it is executed.
"""

import dataclasses
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.import_weights import experiment as imported
from experiments.import_weights import ncsn
from experiments.import_weights.config import Config
from jaxscore import checkpoint, importers, launch, plan
from jaxscore.launch import Experiment, console, flags, programs, provenance, workdir
from jaxscore.launch.flags import FlagError, require
from jaxscore.types import Params

ONCE = ("checkpoint", "average", "preset", "size")
"""Flags of the import that the run does not need any more."""


def main() -> None:
    """Parses flags, and imports or runs."""
    with launch.one_line_errors():
        config = flags.parse(Config)
        with launch.running(config):
            if config.checkpoint is not None:
                run(config)
            else:
                launch.run(imported.build(config), config.workdir, mode=config.mode)


def run(config: Config) -> None:
    """Makes the folder of a run, with config.json and a checkpoint, of the weights in --checkpoint.

    Raises FlagError if the folder has a run, or if the file is damaged or does not fit, and Refusal if the
    folder cannot be used. Nothing is written then.
    """
    occupied = (config.workdir / "config.json").exists()
    require(not occupied, "workdir", config.workdir, "holds a run already; name another folder")
    try:
        if importers.recognise(config.checkpoint).family == "ncsn":
            experiment, params, step = ncsn.imported(config)
            description, command = None, ncsn.command(experiment.config)
        else:
            description, params = importers.read(config.checkpoint, average=config.average, side=config.size)
            experiment, step = imported.assemble(_started(config), description), 0
            folder = shlex.quote(str(config.workdir))
            command = f"python -m experiments.import_weights --workdir {folder} --mode sample"
    except (ValueError, ImportError) as error:
        if isinstance(error, FlagError):
            raise
        raise FlagError(f"--checkpoint {error}") from None
    write(config.workdir, experiment, params, step, description)
    name = description.network if description else experiment.config.network
    console.say(f"{plan.parameters(params):,} parameters of {name}, step {step}; to sample:\n{command}")


def _started(config: Config) -> Config:
    """Returns the configuration that the run starts with, which does not name the file."""
    default = {field.name: field.default for field in dataclasses.fields(Config)}
    return dataclasses.replace(config, mode="sample", **{name: default[name] for name in ONCE})


def write(
    folder: Path,
    experiment: Experiment,
    params: Params,
    step: int,
    description: importers.Description | None,
) -> None:
    """Writes the folder of a run whose parameters and average are `params`.

    Args:
        folder: of the run.
        experiment: the experiment that plays it.
        params: the parameters.
        step: the step that the run has reached.
        description: of the network, if the run needs it.
    """
    stored = provenance.describe(experiment, folder)
    workdir.claim(folder, stored)
    state_of = lambda params: programs.init_state(experiment._replace(init=lambda key: params))
    begin = jax.jit(lambda key, params: state_of(params)(key))(jax.random.key(0), params)
    with checkpoint.manager(folder / "checkpoints") as checkpoints:
        checkpoint.save(checkpoints, begin._replace(step=jnp.int32(step)), wait=True)
    if description is not None:
        workdir.write_json(folder / imported.NETWORK, importers.as_json(description))
    workdir.write_json(folder / "config.json", stored)

"""Pictures of samples as training goes on, in report/training: the same noise each time."""

from pathlib import Path

import jax
import numpy as np

from jaxscore import keys, trainer
from jaxscore.keys import Stream
from jaxscore.launch import plots, processes, programs, summaries
from jaxscore.launch.experiment import Experiment

FEW = 64
"""Number of samples in a picture."""
LARGEST = 1e30
"""Numbers that are larger, or no numbers, are drawn as 0: matplotlib cannot draw them."""


class TrainingPictures:
    """Draws FEW samples by the experiment's first sampler at every `picture_every`-th step after `start`."""

    def __init__(self, experiment: Experiment, folder: Path, start: int):
        self.experiment, self.mesh = experiment, programs.mesh_of(experiment.config)
        self.folder, self.every = folder / "report" / summaries.TRAINING, experiment.config.picture_every
        self.root = keys.stream(experiment.config.seed, Stream.SAMPLE)
        self.draws = None
        if jax.process_index() == 0:  # later pictures are of a training that this one replaces
            for path in self.folder.glob("*.png"):
                if path.stem.isdecimal() and int(path.stem) > start:
                    path.unlink()

    def due(self, number: int) -> bool:
        """Whether a picture is made after this step."""
        return bool(self.every) and number % self.every == 0

    def draw(self, state: trainer.TrainState, number: int) -> Path:
        """Returns the picture's path, STEP.png with the step's number; only the first process writes it.

        Samples are drawn with the averaged parameters. There may be numbers that are not finite after a
        few steps; see LARGEST.
        """
        name = next(iter(self.experiment.samplers))
        if self.draws is None:
            rows = -(-FEW // self.mesh.size) * self.mesh.size
            self.draws = programs.make_sampler(self.experiment, name, self.mesh, rows)
        params = programs.sampled(self.experiment, state.ema, self.mesh)
        drawn = processes.everywhere(self.draws(params, self.root, np.int32(0)))
        first = np.asarray(jax.tree.leaves(drawn)[0][:FEW], np.float32)
        first = np.where(np.abs(first) < LARGEST, first, 0)
        path = self.folder / f"{number:08}.png"
        if jax.process_index() == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            with plots.page(path, columns=1, size=4.0) as (axes,):
                plots.examples(axes, first, f"{name}, step {number:,}")
        return path

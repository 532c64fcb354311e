"""Sampling: draws the samples of every sampler, in parts that are split over the devices."""

import re
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxscore import keys
from jaxscore.keys import Stream
from jaxscore.launch import console, processes, programs, workdir
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.metrics_log import NonFinite
from jaxscore.launch.signals import Interrupted, Signals
from jaxscore.launch.workdir import Refusal

TAKEN = ("stamp", "file", "allow_pickle")
"""Names that an array of samples cannot have: the first is in samples.npz, the others are NumPy's."""

NAME = re.compile(r"(?!\.)[\w .,=+()-]{1,100}")


def sample(experiment: Experiment, folder: Path, params, mesh, stamp: str, signals: Signals) -> None:
    """Writes the samples of every sampler to samples.npz, and the seconds it took to sampling.json.

    Does nothing if samples.npz has the same stamp. Raises NonFinite if a sample is not finite; samples.npz is
    then as before.
    """
    path = folder / "samples.npz"
    if processes.on_first(lambda: workdir.read_samples(path)[1] == stamp):
        return
    samples, seconds = draw(experiment, params, mesh, signals)
    require_finite(samples)
    if jax.process_index() == 0:
        workdir.write_json(folder / "sampling.json", seconds)
        workdir.write_samples(path, samples, stamp)


def require_finite(samples: dict[str, np.ndarray]) -> None:
    """Raises NonFinite, which names the array, if a sample is not finite."""
    for name, x in samples.items():
        if not np.isfinite(x).all():
            raise NonFinite(f"samples {name!r} are not finite; check the noise levels and steps of sampling")


def shapes(experiment: Experiment, mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shapes and types of all arrays of samples, as many rows as are drawn at a time; draws nothing.

    Raises Refusal if the experiment has no samplers, or if a sampler does not return one sample for each key.
    The names of the arrays must be free, and must be possible names of files.
    """
    if not experiment.samplers:
        raise Refusal(f"experiment {experiment.name} has no samplers; give it one, or choose --mode train")
    found: dict[str, jax.ShapeDtypeStruct] = {}
    for name in experiment.samplers:
        rows = programs.rows_at_a_time(experiment.config, mesh)
        found |= _named(name, programs.drawn(experiment, name, mesh), {*found, *TAKEN}, rows)
    return found


def draw(
    experiment: Experiment, params, mesh, signals: Signals | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the samples of every sampler by name, and the seconds that drawing and compiling took.

    Sample i depends on (seed, i) alone.

    Raises:
        Interrupted: after a signal.
        Refusal: as `shapes` does.
    """
    config = experiment.config
    root = keys.stream(config.seed, Stream.SAMPLE)
    samples, seconds = {}, {}
    shapes(experiment, mesh)  # refuses what cannot be split over the devices
    for name in experiment.samplers:
        compiled, rows, compile_seconds = compile_sampler(experiment, name, mesh)
        begin, parts = time.monotonic(), []
        for start in console.in_turn(range(0, config.samples, rows), f"sample by {name}"):
            if signals and signals.stop():
                raise Interrupted("stopped while sampling")
            part = processes.everywhere(compiled(params, root, np.int32(start)))
            parts.append(_named(name, part, {*samples, *TAKEN}, rows))
        # All parts have the same number of rows, so they may have more rows than samples are needed.
        samples |= jax.tree.map(lambda *rows: np.concatenate(rows)[: config.samples], *parts)
        seconds[name] = {"seconds": time.monotonic() - begin, "compile_seconds": compile_seconds}
        console.say(f"{config.samples} samples by {name} in {seconds[name]['seconds']:.1f} s")
    return samples, seconds


def _named(sampler: str, drawn: Any, taken: set[str], n: int) -> dict[str, Any]:
    """Returns the arrays by name. Raises Refusal if they are no arrays with n rows under new names."""
    named = drawn if isinstance(drawn, dict) else {sampler: drawn}
    for name, array in named.items():
        if name in taken:
            raise Refusal(f"sampler {sampler} returns an array {name!r}; that name is taken")
        if not (isinstance(name, str) and NAME.fullmatch(name)):
            remedy = "names are up to 100 letters, digits, spaces and .,=+-()_, as files are named after them"
            raise Refusal(f"sampler {sampler} returns an array {str(name)[:100]!r}; {remedy}")
        if not getattr(array, "shape", ()):
            need = "it must return an array, or a dictionary of arrays, with a row for each key"
            raise Refusal(f"sampler {sampler} returns {type(array).__name__}; {need}")
        if array.shape[0] != n:
            raise Refusal(f"sampler {sampler} returns {array.shape[0]} samples for {n} keys: one for each")
    return named


def compile_sampler(experiment: Experiment, name: str, mesh):
    """Returns the compiled program of `programs.make_sampler`, its rows, and the seconds of compilation."""
    begin = time.monotonic()
    lowered, rows = programs.lower_sampler(experiment, name, mesh)
    return lowered.compile(), rows, time.monotonic() - begin

"""Images from measurements of them, by a trained run, with the uncertainty of every pixel.

    make edm ARGS="--no-conditional --p-uncond 0"
    python -m experiments.restore --problem super_resolution
    python -m experiments.restore --problem inpaint --known top --noise 0 --methods pigdm repaint
    python -m experiments.restore --run runs/ncsn-fashion --problem inpaint --methods replacement

The images are those of the test split, if the data have one: the network has never seen them. Each image is
measured, with noise, and restored several times by each method. The table has the errors of the draws and of
their mean. Coverage says whether the truth lies within the draws as often as it should.
"""

import json
import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.features import epochs_for, judges
from experiments.common.langevin import Langevin
from experiments.common.runs import opened, unseen
from experiments.restore import config as configs
from experiments.restore import report
from experiments.restore.config import Config
from experiments.restore.judge import judged
from experiments.restore.methods import Problem, methods, prepared, unconditional
from jaxscore import keys, launch, noise, samplers, sharding
from jaxscore.inverse import operators
from jaxscore.keys import Stream
from jaxscore.launch import Refusal, Run, console, flags, workdir
from jaxscore.launch.compiler import compiler_options
from jaxscore.launch.evaluate import examples
from jaxscore.launch.flags import require, require_sigmas
from jaxscore.launch.sample import require_finite
from jaxscore.types import Array

REMEDY = "train a run first, such as runs/edm-fashion by: python -m experiments.edm --preset fashion"
"""What to do without a run."""

SEEN = (
    "note: the truths are training examples, which flatters the figures; "
    "experiments.digits keeps some out of the training with --held-out 0.2"
)
"""What the table says if there are no other images."""


def run(config: Config) -> dict[str, Any]:
    """Writes restore.json, restored.npz and the picture, and prints the table; returns the figures.

    Rows of an earlier run are kept if all its flags but --methods were the same.
    """
    if not config.run.exists():
        raise Refusal(f"--run {config.run}: there is no such folder; {REMEDY}")
    opened_run = opened(config.run, config.experiment)
    images, source = chosen(config, opened_run)
    problem = posed(config, opened_run)
    description = workdir.describe("restore", config)
    with workdir.owned(config.workdir, description):
        measured = measurements(problem, images)
        found, seconds = all_restored(problem, measured, images, stamp_of(description, opened_run))
        features = features_of(opened_run)
        rows = {name: judged(images, x, features) | {"seconds": seconds[name]} for name, x in found.items()}
        results = {"problem": config.problem, "images": source, "methods": rows}
        workdir.write_json(config.workdir / "restore.json", results)
        report.picture(images, shown(problem, measured), found, rows, config.workdir / "restore.png")
    console.say(report.table(rows))
    if source == "training examples":
        console.say(SEEN)
    console.say(f"picture: {config.workdir / 'restore.png'}")
    return results


def main() -> None:
    """Parses flags, whose defaults depend on the problem, and runs."""
    with launch.one_line_errors():
        problem = flags.choose("problem", configs.PROBLEMS, Config.problem)
        launch.program(run, Config(problem=problem, workdir=Path("runs") / f"restore-{problem}"))


def stamp_of(description: dict[str, Any], opened_run: Run) -> str:
    """Returns what every row depends on: all flags but --methods, and the step of the checkpoint."""
    return json.dumps(description | {"methods": None, "step": opened_run.step}, sort_keys=True)


def all_restored(
    problem: Problem, y: Array, images: np.ndarray, stamp: str
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Returns the draws of each method and the seconds of each draw, kept ones and new ones, in order.

    They are in restored.npz as soon as they are known, as NAME and seconds_NAME; a killed run goes on there.
    """
    path = problem.config.workdir / "restored.npz"
    kept, before = workdir.read_samples(path)
    if before != stamp:
        if path.exists():
            console.say(f"{path} is damaged, or of other flags or another checkpoint: its rows are replaced")
        kept = {"images": images, "measured": np.asarray(y)}
    for name, draw in methods(problem).items():
        if name not in kept:
            x, each = restored(problem, name, draw, y)
            require_finite({name: x})
            kept |= {name: x, f"seconds_{name}": np.asarray(each)}
            workdir.write_samples(path, kept, stamp)
    names = [name for name in configs.METHODS if name in kept]
    return {name: kept[name] for name in names}, {name: float(kept[f"seconds_{name}"]) for name in names}


def chosen(config: Config, opened_run: Run) -> tuple[np.ndarray, str]:
    """Returns images [n, h, w, c], and what they are: unseen in the training, if any are (`unseen`)."""
    found, source = unseen(opened_run)
    images = found.examples
    remedy = f"must be at most {len(images)}, the images that there are"
    require(config.images <= len(images), "images", config.images, remedy)
    require(len(images.shape) == 4, "run", config.run, "its examples are no images")
    order = np.random.default_rng(config.seed).permutation(len(images))
    return np.asarray(images[np.sort(order[: config.images])], np.float32), source


def posed(config: Config, opened_run: Run) -> Problem:
    """Returns the problem. Raises Refusal for a run whose score needs a class, and FlagError."""
    try:
        no_class = unconditional(opened_run)
    except ValueError as error:
        raise Refusal(f"--run {config.run}: {error}") from None
    units = opened_run.experiment.units
    moments = samplers.moments(np.asarray(units.encode(examples(opened_run.experiment, 10_000))))
    event = moments.mean.shape
    ramp = jnp.linspace(0.25, 0.75, math.prod(event)).reshape(1, *event)
    slope = jax.jvp(units.encode, (ramp,), (jnp.ones_like(ramp),))[1]
    require(jnp.ptp(slope) < 1e-6, "run", config.run, "its score is not in units of pixels")
    low, high = levels_of(config, opened_run.experiment.config)
    require_sigmas(low, high)
    operator = prepared(configs.operator(config, event), event)
    sigmas = noise.levels(noise.karras(low, high), config.levels)
    dynamics = langevin(config, opened_run.experiment.config)
    sigma_data, std = float(jnp.mean(moments.variances) ** 0.5), config.noise * float(slope.mean())
    return Problem(config, opened_run, no_class, operator, std, moments, sigma_data, sigmas, dynamics)


def levels_of(config: Config, trained_on: Any) -> tuple[float, float]:
    """Returns the smallest and largest level: the flags, or those of the run's own sampler."""
    own = next((each for each in map(trained_on.__dict__.get, ("sampling", "heun")) if each), trained_on)
    low, high = getattr(own, "sigma_min", 0.01), getattr(own, "sigma_max", 40.0)
    return config.sigma_min or low, config.sigma_max or high


def langevin(config: Config, trained_on: Any) -> Langevin:
    """Returns the dynamics of replacement: those of a run of experiments.ncsn, or --langevin."""
    if not hasattr(trained_on, "epsilon"):
        return config.langevin
    return Langevin(
        levels=trained_on.levels,
        steps=trained_on.langevin_steps,
        step_size=trained_on.epsilon / trained_on.sigma_min**2,
        sigma_min=trained_on.sigma_min,
        sigma_max=trained_on.sigma_max,
    )


def measurements(problem: Problem, images: np.ndarray) -> Array:
    """Returns y = A x + noise z for each image, in the units of the score."""
    clean = problem.operator.apply(problem.run.experiment.units.encode(jnp.asarray(images)))
    key = keys.stream(problem.config.seed, Stream.EVALUATE)
    return clean + problem.noise * noise.normal(noise.row_keys(key, len(clean)), clean.shape)


def restored(problem: Problem, name: str, draw: Any, y: Array) -> tuple[np.ndarray, float]:
    """Returns draws [images, samples, h, w, c] in 0..1, batch by batch, and the seconds of a draw.

    All devices compute. The seconds are without the time of the compiler.
    """
    config, mesh = problem.config, sharding.mesh()
    several = config.samples
    # Whole images, since particles of an image belong together, and as many rows as the devices divide.
    each = max(1, min(len(y), config.batch // several))
    while each * several % mesh.size:
        each += 1
    rows = noise.row_keys(keys.stream(config.seed, Stream.SAMPLE), len(y) * several)
    decode, params = problem.run.experiment.units.decode, problem.run.params
    program = jax.jit(
        lambda params, rows, y: jnp.clip(decode(draw(params, rows, y)), 0, 1),
        compiler_options=compiler_options(),
    )
    compiled, parts, seconds = None, [], 0.0
    console.say(f"{name} ...")
    for start in console.in_turn(range(0, len(y), each), name):
        numbers = np.repeat(np.arange(start, start + each) % len(y), several)
        within = (numbers * several + np.tile(np.arange(several), each)) % (len(y) * several)
        split = jax.device_put((rows[within], y[numbers]), sharding.batched(mesh))
        compiled = compiled or program.lower(params, *split).compile()
        begin = time.perf_counter()
        parts.append(np.asarray(compiled(params, *split)))
        seconds += time.perf_counter() - begin
    x = np.concatenate(parts)
    return x[: len(y) * several].reshape(len(y), several, *problem.event), seconds / len(x)


def shown(problem: Problem, y: Array) -> np.ndarray:
    """Returns a picture of each measurement, in 0..1: the image of least norm, a little regularised.

    Half images have a chessboard where they have not been measured.
    """
    if problem.operator.adjoint is None:
        x = y[:, : problem.event[0], : problem.event[1]]
        return np.asarray(x / x.max(axis=(1, 2, 3), keepdims=True))
    x = problem.operator.adjoint(operators.solve(problem.operator, max(problem.noise, 1e-3) ** 2, y))
    x = np.clip(np.asarray(problem.run.experiment.units.decode(x)), 0, 1)
    if problem.config.problem == "inpaint":
        chessboard = 0.4 + 0.2 * (np.indices(problem.event).sum(axis=0) % 2)
        x = np.where(configs.half(problem.config.known, problem.event), x, chessboard)
    return x


def features_of(opened_run: Run) -> Any:
    """Returns the features of a classifier of the run's data set, or None if there is no data set."""
    source = opened_run.experiment.data
    if source is None:
        return None
    reference = examples(opened_run.experiment, 2000)
    found, _ = judges(
        source.examples, np.asarray(source.labels), reference, n=1, epochs=epochs_for(len(source.labels))
    )
    return found[0][0]

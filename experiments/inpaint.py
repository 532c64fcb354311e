"""Many completions of the same half image, by annealed Langevin dynamics with a mask.

    python -m experiments.ncsn --preset fashion
    python -m experiments.inpaint --run runs/ncsn-fashion --known left
    python -m experiments.inpaint --run runs/digits

Opens a trained run, keeps one half of each of some images, and lets annealed Langevin dynamics fill in the
other. Before every step the known half is replaced by itself plus the noise of the level (Song & Ermon
2019, algorithm 2), at the end by itself. If the data set has a test split, the images are from it: the
network has never seen them.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.langevin import Langevin
from experiments.common.runs import opened, unseen
from jaxscore import inverse, keys, launch, noise, samplers, sharding
from jaxscore.keys import Stream
from jaxscore.launch import Run, console, plots, workdir
from jaxscore.launch.compiler import compiler_options
from jaxscore.launch.evaluate import examples, require_finite
from jaxscore.launch.flags import Count, Seed, check, require
from jaxscore.score import denoise
from jaxscore.types import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Many completions of the same half image."""

    run: Path = Path("runs/ncsn-fashion")
    """Folder of a trained run whose experiment says what its score is."""
    experiment: str | None = None
    """Module with the run's `build` and its configuration; experiments.NAME if it is not given."""
    workdir: Path = Path("runs/inpaint")
    """Folder for inpaint.png, inpaint.json and completions.npz."""
    known: Literal["left", "right", "top", "bottom"] = "left"
    """The half that is kept."""
    images: Count = 6
    """Number of images."""
    completions: Count = 8
    """Number of completions of each image."""
    seed: Seed = 0
    """Seed of all random numbers, and of the choice of images."""
    langevin: Langevin = dataclasses.field(default_factory=lambda: Langevin(sigma_min=0.05, sigma_max=10.0))
    """The dynamics for runs other than those of experiments.ncsn, which have their own."""

    def __post_init__(self):
        check(self)


def langevin(config: Config, trained_on: launch.Config) -> Langevin:
    """Returns the dynamics: those of a run of experiments.ncsn, or --langevin."""
    if not hasattr(trained_on, "epsilon"):
        return config.langevin
    return Langevin(
        levels=trained_on.levels,
        steps=trained_on.langevin_steps,
        step_size=trained_on.epsilon / trained_on.sigma_min**2,
        sigma_min=trained_on.sigma_min,
        sigma_max=trained_on.sigma_max,
    )


def half(known: str, event: tuple[int, ...]) -> np.ndarray:
    """Returns the mask of an event [h, w, c]: true where pixels are known."""
    axis = 0 if known in ("top", "bottom") else 1
    first = np.arange(event[axis]) < event[axis] // 2
    line = first if known in ("top", "left") else ~first
    return np.broadcast_to(line.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1)), event)


def chosen(config: Config, run: Run) -> np.ndarray:
    """Returns images [n, h, w, c] that the run has not been trained on, if there are any (`unseen`)."""
    images = unseen(run)[0].examples
    remedy = f"must be at most {len(images)}, the images that there are"
    require(config.images <= len(images), "images", config.images, remedy)
    require(len(images.shape) == 4, "run", config.run, "its examples are no images")
    return images[np.random.default_rng(config.seed).permutation(len(images))[: config.images]]


def complete(dynamics: Langevin, moments: samplers.Moments, score, keys, known: Array, mask: Array) -> Array:
    """Returns a completion of known[b, h, w, c] for each key, in the units of the score."""
    # Before every one of the T steps at a level, the known half is made as noisy as the level.
    step = dataclasses.replace(dynamics, steps=1).sampler()
    completing = samplers.repeat(inverse.replacement(step, known, mask), dynamics.steps)
    event, sigmas = known.shape[1:], dynamics.sigma_grid()
    x = samplers.generate(keys, event, sigmas, score, completing, moments=moments)
    x = denoise(score, x, jnp.full(len(x), dynamics.sigma_min))
    return inverse.paste(x, known, mask)


def completions(config: Config, run: Run, images: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns [images, completions, h, w, c], computed by all devices."""
    known, mesh = np.repeat(images, config.completions, axis=0), sharding.mesh()
    n = -(-len(known) // mesh.size) * mesh.size  # rounded up to the devices; the rest is cut off
    experiment, dynamics = run.experiment, langevin(config, run.experiment.config)
    rows = noise.row_keys(keys.stream(config.seed, Stream.SAMPLE), n)
    moments = samplers.moments(np.asarray(experiment.units.encode(examples(experiment, 10_000))))
    condition = {} if experiment.conditions is None else {"condition": experiment.conditions(jnp.arange(n))}

    def program(params, rows, known, condition):
        score = partial(experiment.score, params, **condition)
        x = complete(dynamics, moments, score, rows, experiment.units.encode(known), jnp.asarray(mask))
        return jnp.where(mask[None], known, jnp.clip(experiment.units.decode(x), 0, 1))

    split = jax.device_put((rows, np.resize(known, (n, *known.shape[1:])), condition), sharding.batched(mesh))
    found = np.asarray(jax.jit(program, compiler_options=compiler_options())(run.params, *split))
    return found[: len(known)].reshape(len(images), config.completions, *images.shape[1:])


def run(config: Config) -> dict:
    """Writes completions.npz, inpaint.json and the picture; returns the figures."""
    opened_run = opened(config.run, config.experiment)
    images = chosen(config, opened_run)
    mask, dynamics = half(config.known, images.shape[1:]), langevin(config, opened_run.experiment.config)
    steps = dynamics.levels * dynamics.steps
    console.say(f"{len(images) * config.completions} completions by {steps} Langevin steps ...")
    with workdir.owned(config.workdir, workdir.describe("inpaint", config)):
        found = completions(config, opened_run, images, mask)
        require_finite({"completions": found})
        results = judge_completions(images, found, mask)
        workdir.write_json(config.workdir / "inpaint.json", results)
        arrays = {"images": images, "completions": found}
        workdir.write_samples(config.workdir / "completions.npz", arrays, "")
        picture(config, images, found, mask, config.workdir / "inpaint.png")
    rows = [(name, f"{value:.4f}") for name, value in results.items()]
    console.say(console.table([("root mean square", "in 0..1"), *rows]))
    console.say(f"picture: {config.workdir / 'inpaint.png'}")
    return results


def judge_completions(images: np.ndarray, found: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Returns root mean squares over pixels, in units of pixels in 0..1."""
    rms = lambda a: float(np.sqrt(np.mean(a**2)))
    away = found - images[:, None]
    return {
        "known half, from the image": rms(away[:, :, mask]),
        "free half, from the image": rms(away[:, :, ~mask]),
        "free half, from the mean of its completions": rms(
            (found - found.mean(axis=1, keepdims=True))[:, :, ~mask]
        ),
        "free half, of the images about their mean": rms((images - images.mean(axis=0))[:, ~mask]),
    }


def picture(config: Config, images: np.ndarray, found: np.ndarray, mask: np.ndarray, path: Path) -> None:
    """Draws a row for each image: the image, its known half, the completions."""
    shown = np.where(mask, images, 0.5)
    rows = np.concatenate([images[:, None], shown[:, None], found], axis=1)
    flat = rows.reshape(-1, *images.shape[1:])
    width = 0.8 * rows.shape[1]
    with plots.page(path, columns=1, size=width, height=0.8 * len(rows) + 0.4) as (axes,):
        title = f"image, its {config.known} half, and completions"
        plots.images(axes, flat, rows=len(rows), title=title)


if __name__ == "__main__":
    launch.program(run, Config())

"""Many completions of the same half image, by annealed Langevin dynamics with a mask.

    python -m experiments.ncsn --preset fashion
    python -m experiments.inpaint --run runs/ncsn-fashion --known left

Takes a network that `experiments.ncsn` has trained, keeps one half of each of some images, and lets
annealed Langevin dynamics fill in the other: before every step the known half is replaced by itself plus
the noise of the level (Song & Ermon 2019, algorithm 2), at the end by itself. Where the data set has a
test split, the images are from it, so that the network has never seen them.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments.ncsn import experiment as ncsn
from experiments.ncsn.config import Config as TrainedConfig
from jaxscore import checkpoint, data, inverse, launch, noise, samplers, sharding
from jaxscore.launch import console, flags, plots, programs, workdir
from jaxscore.launch.compiler import compiler_options
from jaxscore.launch.config import restored
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.flags import require
from jaxscore.launch.workdir import Refusal
from jaxscore.score import denoise


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which trained network, which images, and what is known of them."""

    run: Path = Path("runs/ncsn-fashion")
    """Folder of a run of `experiments.ncsn` that has been trained."""
    workdir: Path = Path("runs/inpaint")
    """Folder for inpaint.png, inpaint.json and completions.npz."""
    known: Literal["left", "right", "top", "bottom"] = "left"
    """The half that is kept."""
    images: int = 6
    """How many images."""
    completions: int = 8
    """How many completions of each."""
    seed: int = 0
    """Which images, and all other randomness."""

    def __post_init__(self):
        for name in ("images", "completions"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        require(0 <= self.seed < 2**32, "seed", self.seed, "must lie in 0..2^32 - 1")


def trained(folder: Path) -> tuple[Experiment, TrainedConfig, dict]:
    """The experiment of a run, its configuration and averaged parameters. Raises Refusal if it has none."""
    config = configuration(folder)
    experiment = ncsn.build(config)
    with checkpoint.manager(folder / "checkpoints", read_only=True) as checkpoints:
        state = checkpoint.restore_latest(checkpoints, programs.abstract_state(experiment, sharding.mesh()))
    if state is None:
        raise Refusal(f"--run {folder}: has no checkpoint yet; python -m experiments.ncsn --workdir {folder}")
    return experiment, config, state.ema


def configuration(folder: Path) -> TrainedConfig:
    """What the config.json of a run of `experiments.ncsn` says. Raises Refusal if it is none."""
    described = workdir.read_json(folder / "config.json")
    name = described.pop("experiment", None) if isinstance(described, dict) else None
    if name != "ncsn" or not (folder / "checkpoints").is_dir():
        raise Refusal(f"--run {folder}: is no trained run; python -m experiments.ncsn --workdir {folder}")
    try:
        return restored(TrainedConfig, described | {"workdir": folder})
    except (KeyError, TypeError) as error:
        raise Refusal(f"--run {folder}: its config.json is not of this version: {error}") from None


def half(known: str, event: tuple[int, ...]) -> np.ndarray:
    """The mask of an event [h, w, c]: true where pixels are known."""
    axis = 0 if known in ("top", "bottom") else 1
    first = np.arange(event[axis]) < event[axis] // 2
    line = first if known in ("top", "left") else ~first
    return np.broadcast_to(line.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1)), event)


def chosen(config: Config, trained_on: TrainedConfig) -> np.ndarray:
    """Images [n, h, w, c] that the network has not been trained on, where there are any."""
    load = partial(data.load, trained_on.data, trained_on.data_dir, size=trained_on.size)
    try:
        examples = load(split="test").examples
    except data.DataError:  # there is no test split
        examples = load().examples
    remedy = f"must be at most {len(examples)}, the images that there are"
    require(config.images <= len(examples), "images", config.images, remedy)
    return examples[np.random.default_rng(config.seed).permutation(len(examples))[: config.images]]


def complete(config: TrainedConfig, params, keys, known, mask) -> jax.Array:
    """A completion for each key of the image known[b, h, w, c], denoised at the end."""
    sigmas, score = ncsn.levels(config), partial(ncsn.score_network(config)[1], params)
    step = samplers.langevin(samplers.annealed(config.epsilon, config.sigma_min))
    dynamics = samplers.repeat(inverse.replacement(step, known, mask), config.langevin_steps)
    x = ncsn.starting_point(config, noise.fold_in(keys, 0), known.shape[1:])
    x, _ = samplers.sample(noise.fold_in(keys, 1), x, sigmas, score, dynamics)
    x = denoise(score, x, jnp.full(len(x), config.sigma_min))
    return jnp.clip(inverse.paste(x, known, mask), 0, 1)


def completions(config: Config, trained_on: TrainedConfig, params, images, mask) -> np.ndarray:
    """[images, completions, h, w, c], the rows split over the devices."""
    known, mesh = np.repeat(images, config.completions, axis=0), sharding.mesh()
    rows = -(-len(known) // mesh.size) * mesh.size  # rounded up to the devices; the rest is cut off
    keys = noise.row_keys(jax.random.key(config.seed), rows)
    split = jax.device_put((keys, np.resize(known, (rows, *known.shape[1:]))), sharding.batched(mesh))
    compiled = jax.jit(
        lambda params, keys, known: complete(trained_on, params, keys, known, jnp.asarray(mask)),
        compiler_options=compiler_options(),
    )
    found = np.asarray(compiled(params, *split))[: len(known)]
    return found.reshape(len(images), config.completions, *images.shape[1:])


def run(config: Config) -> dict:
    """Completions into completions.npz, their figures into inpaint.json, and the picture."""
    _, trained_on, params = trained(config.run)
    images = chosen(config, trained_on)
    description = workdir.describe("inpaint", config)
    workdir.claim(config.workdir, description)
    mask = half(config.known, images.shape[1:])
    evaluations = trained_on.levels * trained_on.langevin_steps
    console.say(f"{len(images) * config.completions} completions by {evaluations} Langevin steps ...")
    found = completions(config, trained_on, params, images, mask)
    results = judge_completions(images, found, mask)
    workdir.write_json(config.workdir / "config.json", description)
    workdir.write_json(config.workdir / "inpaint.json", results)
    workdir.write_samples(config.workdir / "completions.npz", {"images": images, "completions": found}, "")
    picture(config, images, found, mask, config.workdir / "inpaint.png")
    console.say(console.table([("", ""), *((name, f"{value:.4f}") for name, value in results.items())]))
    console.say(f"picture: {config.workdir / 'inpaint.png'}")
    return results


def judge_completions(images: np.ndarray, found: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Root mean squares over pixels, in units of pixels in 0..1."""
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
    """A row for each image: the image, its known half, the completions."""
    shown = np.where(mask, images, 0.5)
    rows = np.concatenate([images[:, None], shown[:, None], found], axis=1)
    flat = rows.reshape(-1, *images.shape[1:])
    width = 0.8 * rows.shape[1]
    with plots.page(path, columns=1, size=width, height=0.8 * len(rows) + 0.4) as (axes,):
        title = f"image, its {config.known} half, and completions"
        plots.images(axes, flat, rows=len(rows), title=title)


def main() -> None:
    """Parse flags and run."""
    with launch.one_line_errors():
        config = flags.parse(Config())
        with launch.one_line_errors(config.workdir):
            run(config)


if __name__ == "__main__":
    main()

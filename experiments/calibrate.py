"""Noise levels and step size of annealed Langevin dynamics for a data set.

    python -m experiments.calibrate --data fashion_mnist

Calculates them by the techniques of Song & Ermon 2020. Prints them as flags of `python -m experiments.ncsn`
and writes them to recipe.json in the workdir. Draws the overlap of neighbouring levels over their number, and
the annealing error over the step size.
"""

import dataclasses
import math
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from msgspec import Meta

from jaxscore import calibrate, data, launch
from jaxscore.calibrate import Recipe, TrainingNoise
from jaxscore.launch import console, flags, plots, workdir
from jaxscore.launch.flags import Count, Levels, require

LEAST_OVERLAP = 0.01
"""Smallest overlap of neighbouring levels that is accepted: with less, samples cannot follow the levels."""

LOOKED_AT = 4096
"""Examples from which the standard deviation is estimated if the data set does not fit in memory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Noise levels and step size of annealed Langevin dynamics for a data set."""

    data: str = "fashion_mnist"
    """Data set; an unknown name lists the known ones."""
    data_dir: Path | None = None
    """Folder of the data set, if it is not in its usual place."""
    split: str = "train"
    """Part of the data set: `train`, `test` or `all`."""
    size: int | None = None
    """Side of the images in pixels, for data sets of photographs."""
    overlap: Annotated[float, Meta(gt=0, lt=0.997)] = calibrate.levels.OVERLAP
    """Overlap of neighbouring levels; all published recipes have 0.567."""
    levels: Levels | None = None
    """Number of levels; by default it is calculated from the overlap."""
    langevin_steps: Count = 5
    """Langevin steps at each level, T."""
    sigma_min: Annotated[float, Meta(ge=1e-6)] = 0.01
    """Smallest noise level, for pixels in 0..1."""
    estimate: bool = False
    """Use a lower bound of the largest distance, as for data that do not fit in memory."""
    workdir: Path = Path("runs/calibrate")
    """Folder for recipe.json and the picture."""

    def __post_init__(self):
        flags.check(self)


class Measured(NamedTuple):
    """Measurements of the data."""

    examples: int
    shape: tuple[int, ...]
    largest_distance: float
    exact: bool
    """False if the distance is a lower bound."""
    sigma_data: float


def run(config: Config) -> Recipe:
    """Returns the recipe; prints it and writes recipe.json and calibrate.png into the workdir.

    Raises DataError if the data are absent or unsuitable, FlagError for levels that do not suit the data, and
    Refusal if the folder cannot be used.
    """
    begin = time.monotonic()
    examples = data.load(config.data, config.data_dir, split=config.split, size=config.size).examples
    with workdir.owned(config.workdir, workdir.describe("calibrate", config)):
        measured = measure(examples, estimate=config.estimate)
        recipe = recommend(config, measured)
        noise = calibrate.training_noise(measured.sigma_data)
        console.say(console.table(table(config, measured, recipe, noise)))
        console.say(f"\n{arguments(recipe)}\n")
        workdir.write_json(config.workdir / "recipe.json", as_json(config, measured, recipe, noise))
        draw(config.workdir / "calibrate.png", recipe)
        console.say(f"picture: {config.workdir / 'calibrate.png'}   {time.monotonic() - begin:.1f} s")
    return recipe


def measure(examples: data.Examples, *, estimate: bool = False) -> Measured:
    """Measures the largest distance between two examples, and sigma_data.

    The distance is exact if the data fit in memory and `estimate` is False; otherwise it is a lower bound.
    Raises DataError for fewer than 2 examples.
    """
    n, shape = len(examples), examples.shape[1:]
    if n < 2:
        raise data.DataError("one example has no distance to another; at least 2 are needed")
    resident = data.fits(examples)
    examples = examples[:] if resident else examples
    console.say(f"the largest distance between two of {n} examples of {'x'.join(map(str, shape))} ...")
    if resident and not estimate:
        distance = calibrate.largest_distance(examples)
    elif resident:
        distance = calibrate.largest_distance_estimate(examples)
    else:
        batches = lambda: (examples[start : start + 512] for start in range(0, n, 512))
        distance = calibrate.largest_distance_streamed(batches)
    spread = examples if resident else examples[np.linspace(0, n - 1, min(n, LOOKED_AT)).astype(int)]
    exact = resident and not estimate
    return Measured(n, shape, float(distance), exact, float(calibrate.sigma_data(spread)))


def recommend(config: Config, measured: Measured) -> Recipe:
    """The recipe for the measured data; its largest level is the largest distance, rounded to four digits.

    Raises FlagError if sigma_min or the number of levels does not suit the data, and DataError if all
    examples are equal or have fewer than 5 numbers.
    """
    sigma_max = float(f"{measured.largest_distance:.4g}")
    if sigma_max == 0:
        raise data.DataError(f"--data {config.data}: all images are the same; there is nothing to learn")
    remedy = f"must be below sigma_max, the largest distance in the data, {sigma_max:g}"
    require(config.sigma_min < sigma_max, "sigma-min", config.sigma_min, remedy)
    dimension = math.prod(measured.shape)
    if dimension < 5:
        remedy = f"{dimension} numbers in an example; at least 5 are needed"
        raise data.DataError(f"--data {config.data}: {remedy}")
    asked = {"sigma_min": config.sigma_min, "steps": config.langevin_steps}
    recipe = calibrate.recipe(measured.shape, sigma_max, overlap=config.overlap, **asked)
    if config.levels is None:
        return recipe
    given = calibrate.recipe(measured.shape, sigma_max, levels=config.levels, **asked)
    shared = calibrate.overlap(given.ratio, dimension)
    remedy = (
        f"neighbouring levels do not overlap ({shared:.2g}); "
        f"an overlap of {config.overlap:g} takes {recipe.levels} levels"
    )
    require(shared >= LEAST_OVERLAP, "levels", config.levels, remedy)
    return given


def arguments(recipe: Recipe) -> str:
    """The recipe as flags of `experiments.ncsn`."""
    return (
        f"--sigma-max {recipe.sigma_max:g} --sigma-min {recipe.sigma_min:g} --levels {recipe.levels} "
        f"--langevin-steps {recipe.steps} --epsilon {recipe.epsilon:.3g}"
    )


def table(config: Config, measured: Measured, recipe: Recipe, noise: TrainingNoise) -> list[tuple[str, ...]]:
    """Table of the measurements and of the recipe that follows from them."""
    kind = "exact" if measured.exact else "a lower bound"
    step = recipe.epsilon, recipe.sigma_min, recipe.ratio, recipe.steps
    return [
        (config.data, f"{measured.examples} x {'x'.join(map(str, measured.shape))}", "pixels in 0..1"),
        ("largest distance", f"{measured.largest_distance:.5g}", kind),
        ("sigma_data", f"{measured.sigma_data:.4f}", "standard deviation"),
        ("levels", str(recipe.levels), f"{recipe.sigma_max:g} to {recipe.sigma_min:g}"),
        ("ratio", f"{recipe.ratio:.5f}", "of neighbouring levels"),
        ("overlap", f"{calibrate.overlap(recipe.ratio, recipe.dimension):.3f}", "of neighbouring levels"),
        ("epsilon", f"{recipe.epsilon:.3g}", f"with {recipe.steps} steps a level"),
        ("annealing error", f"{calibrate.annealing_error(*step):.4f}", "excess variance"),
        ("pace", f"{calibrate.pace(*step):.2f}", "NCSNv2 follows up to 1: else more steps, or levels"),
        ("evaluations", str(recipe.levels * recipe.steps + 1), "for a sample"),
        ("ln sigma", f"N({noise.mean:.2f}, {noise.std:.2f}^2)", "EDM's training noise"),
    ]


def as_json(config: Config, measured: Measured, recipe: Recipe, noise: TrainingNoise) -> dict:
    """Contents of recipe.json: values of the flags under their names, and the measurements."""
    return {
        "sigma_max": recipe.sigma_max,
        "sigma_min": recipe.sigma_min,
        "levels": recipe.levels,
        "langevin_steps": recipe.steps,
        "epsilon": recipe.epsilon,
        "ratio": recipe.ratio,
        "overlap": calibrate.overlap(recipe.ratio, recipe.dimension),
        "sigma_mean": noise.mean,
        "sigma_std": noise.std,
        "data": config.data,
        "measured": measured._asdict(),
    }


# The picture ----------------------------------------------------------------------------------


def draw(path: Path, recipe: Recipe) -> None:
    """Draws the overlap over the number of levels, and the annealing error over epsilon."""
    with plots.page(path, columns=2, size=5.6, height=4.2) as (overlaps, errors):
        draw_overlap(overlaps, recipe)
        draw_error(errors, recipe)


def draw_overlap(axes, recipe: Recipe) -> None:
    """Draws the overlap of neighbouring levels over their number, and marks the recipe."""
    counts = np.unique(np.geomspace(max(2, recipe.levels / 4), recipe.levels * 8, 300).round().astype(int))
    ratios = (recipe.sigma_max / recipe.sigma_min) ** (1 / (counts - 1))
    shared = [calibrate.overlap(ratio, recipe.dimension) for ratio in ratios]
    chosen = calibrate.overlap(recipe.ratio, recipe.dimension)
    axes.plot(counts, shared, color=plots.BLUE)
    axes.axhline(calibrate.levels.OVERLAP, color=plots.GREY, linewidth=0.8, linestyle=":")
    axes.text(counts[0], calibrate.levels.OVERLAP + 0.015, "published: 0.567", fontsize=8, color=plots.GREY)
    axes.plot(recipe.levels, chosen, "o", color=plots.ORANGE)
    label = f"L = {recipe.levels}: {chosen:.3f}"
    axes.annotate(label, (recipe.levels, chosen), (8, -12), textcoords="offset points", fontsize=9)
    axes.set(xscale="log", ylim=(0, 1.03), xlabel="levels L", ylabel="overlap of neighbouring levels")
    # Ticks at doublings of the first count: matplotlib's own ticks are too few or too many below two decades.
    doublings = counts[0] * 2 ** np.arange(6)
    axes.set_xticks(doublings, [str(count) for count in doublings])
    axes.set_xticks([], minor=True)
    title = f"σ from {recipe.sigma_max:g} to {recipe.sigma_min:g} in {recipe.dimension} dimensions"
    axes.set_title(title, fontsize=10)


def draw_error(axes, recipe: Recipe) -> None:
    """Draws the annealing error over epsilon for several T, and marks the minimum of each curve."""
    span = np.geomspace(recipe.epsilon / 30, min(recipe.epsilon * 30, 1.9 * recipe.sigma_min**2), 400)
    others = [steps for steps in (1, 3, 10, 30) if steps != recipe.steps]
    for steps in sorted([*others, recipe.steps]):
        curve = calibrate.annealing_error(span, recipe.sigma_min, recipe.ratio, steps)
        best = calibrate.step_size(recipe.sigma_min, recipe.ratio, steps)
        least = calibrate.annealing_error(best, recipe.sigma_min, recipe.ratio, steps)
        ours, label = steps == recipe.steps, f"T = {steps}: ε = {best:.2g}"
        shade = plots.ORANGE if ours else (0.12, 0.37, 0.66, 0.35 + 0.15 * others.index(steps))
        axes.plot(span, curve, color=shade, linewidth=2 if ours else 1.2, label=label)
        axes.plot(best, least, "o", color=shade, markersize=6 if ours else 4)
    axes.set(xscale="log", yscale="log")
    axes.set(xlabel="ε, the Langevin step at the last level", ylabel="excess variance after a level")
    axes.set_title(f"annealing error at the ratio {recipe.ratio:.4f}", fontsize=10)
    axes.legend(fontsize=8)


if __name__ == "__main__":
    launch.program(run, Config())

"""Noise levels and step size for annealed Langevin dynamics, measured on a data set.

    python -m experiments.calibrate --data fashion_mnist

Prints the recipe of Song & Ermon 2020 as the flags of `python -m experiments.ncsn`, writes it to
workdir/recipe.json, and draws how the overlap of neighbouring levels depends on their number, and the
error that annealing leaves on the step size.
"""

import dataclasses
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxscore import calibrate, data, launch
from jaxscore.calibrate import Recipe, TrainingNoise
from jaxscore.launch import console, flags, plots, workdir
from jaxscore.launch.flags import require

LEAST_OVERLAP = 0.01
"""Levels that overlap by less are refused: no sample would find its way from one to the next."""

LOOKED_AT = 4096
"""Examples that are looked at, of a data set that is not in memory, for the standard deviation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Noise levels and step size for annealed Langevin dynamics, measured on a data set."""

    data: str = "fashion_mnist"
    """The data set; an unknown name lists those that are known."""
    data_dir: Path | None = None
    """Where it is, if not in its usual place."""
    split: str = "train"
    """Which part: `train`, `test` or `all`."""
    size: int | None = None
    """Resolution, for sets of photographs."""
    overlap: float = calibrate.levels.OVERLAP
    """What neighbouring levels have in common; all that was published has 0.567."""
    levels: int | None = None
    """How many levels, rather than from the overlap."""
    langevin_steps: int = 5
    """Langevin steps at each level, T."""
    sigma_min: float = 0.01
    """The smallest level, in units of pixels in 0..1."""
    estimate: bool = False
    """Estimate the largest distance by a lower bound, as for data that are not in memory."""
    workdir: Path = Path("runs/calibrate")
    """Folder for recipe.json and the picture."""

    def __post_init__(self):
        flags.require_finite(self)
        require(0 < self.overlap < 0.997, "overlap", self.overlap, "must lie between 0 and 0.997")
        require(self.langevin_steps >= 1, "langevin-steps", self.langevin_steps, "must be at least 1")
        require(self.sigma_min > 0, "sigma-min", self.sigma_min, "must be positive")
        require(self.levels is None or self.levels >= 2, "levels", self.levels, "must be at least 2")


class Measured(NamedTuple):
    """What the data say."""

    examples: int
    shape: tuple[int, ...]
    largest_distance: float
    exact: bool
    """Whether the distance is that, or a lower bound."""
    sigma_data: float


def main() -> None:
    """Parse flags, measure, print, write."""
    with launch.one_line_errors():
        config = flags.parse(Config())
        with launch.one_line_errors(config.workdir):
            run(config)


def run(config: Config) -> Recipe:
    """Measure, print, and write recipe.json, config.json and calibrate.png into the workdir.

    Raises DataError, FlagError or Refusal for what cannot be done as asked.
    """
    begin = time.monotonic()
    examples = data.load(config.data, config.data_dir, split=config.split, size=config.size).examples
    description = workdir.describe("calibrate", config)
    workdir.claim(config.workdir, description)
    measured = measure(examples, estimate=config.estimate)
    recipe = recommend(config, measured)
    noise = calibrate.training_noise(measured.sigma_data)
    console.say(console.table(table(config, measured, recipe, noise)))
    console.say(f"\n{arguments(recipe)}\n")
    workdir.write_json(config.workdir / "config.json", description)
    workdir.write_json(config.workdir / "recipe.json", as_json(config, measured, recipe, noise))
    picture = config.workdir / "calibrate.png"
    draw(picture, recipe)
    console.say(f"picture: {picture}   {time.monotonic() - begin:.1f} s")
    return recipe


def measure(examples: data.Examples, *, estimate: bool = False) -> Measured:
    """The largest distance, exact for what fits in memory, else a lower bound, and sigma_data."""
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
        distance = calibrate.largest_distance_streamed(
            lambda: (examples[start : start + 512] for start in range(0, n, 512))
        )
    spread = examples if resident else examples[np.linspace(0, n - 1, min(n, LOOKED_AT)).astype(int)]
    exact = resident and not estimate
    return Measured(n, shape, float(distance), exact, float(calibrate.sigma_data(spread)))


def recommend(config: Config, measured: Measured) -> Recipe:
    """The recipe, its largest level the largest distance to four digits.

    Raises FlagError if there is none with such a sigma_min, overlap or number of levels.
    """
    sigma_max = float(f"{measured.largest_distance:.4g}")
    if sigma_max == 0:
        raise data.DataError(f"--data {config.data}: all images are the same; there is nothing to learn")
    remedy = f"must be below sigma_max, the largest distance in the data, {sigma_max:g}"
    require(config.sigma_min < sigma_max, "sigma-min", config.sigma_min, remedy)
    dimension = int(np.prod(measured.shape))
    if dimension < 5:
        raise data.DataError(
            f"--data {config.data}: {dimension} numbers in an example; at least 5 are needed"
        )
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
    """The recipe as flags of experiments.ncsn."""
    return (
        f"--sigma-max {recipe.sigma_max:g} --sigma-min {recipe.sigma_min:g} --levels {recipe.levels} "
        f"--langevin-steps {recipe.steps} --epsilon {recipe.epsilon:.3g}"
    )


def table(config: Config, measured: Measured, recipe: Recipe, noise: TrainingNoise) -> list[tuple[str, ...]]:
    """What was measured, and what follows."""
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
    """recipe.json: the flags under their names, and what they were made from."""
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
    """The overlap against the number of levels, and the annealing error against epsilon."""
    with plots.page(path, columns=2, size=5.6, height=4.2) as (overlaps, errors):
        draw_overlap(overlaps, recipe)
        draw_error(errors, recipe)


def draw_overlap(axes, recipe: Recipe) -> None:
    """The overlap of neighbouring levels, from few levels to many, and where the recipe is."""
    counts = np.unique(np.geomspace(max(2, recipe.levels / 4), recipe.levels * 8, 300).round().astype(int))
    ratios = (recipe.sigma_max / recipe.sigma_min) ** (1 / (counts - 1))
    shared = [calibrate.overlap(ratio, recipe.dimension) for ratio in ratios]
    chosen = calibrate.overlap(recipe.ratio, recipe.dimension)
    axes.plot(counts, shared, color=plots.BLUE)
    axes.axhline(calibrate.levels.OVERLAP, color=plots.GREY, linewidth=0.8, linestyle=":")
    axes.text(counts[0], calibrate.levels.OVERLAP + 0.015, "published: 0.567", fontsize=8, color=plots.GREY)
    axes.plot(recipe.levels, chosen, "o", color=plots.ORANGE)
    axes.annotate(
        f"L = {recipe.levels}: {chosen:.3f}",
        (recipe.levels, chosen),
        xytext=(8, -12),
        textcoords="offset points",
        fontsize=9,
    )
    axes.set(xscale="log", ylim=(0, 1.03), xlabel="levels L", ylabel="overlap of neighbouring levels")
    # Doublings from the first count: less than two decades have too few powers of ten, or too many labels.
    doublings = counts[0] * 2 ** np.arange(6)
    axes.set_xticks(doublings, [str(count) for count in doublings])
    axes.set_xticks([], minor=True)
    title = f"σ from {recipe.sigma_max:g} to {recipe.sigma_min:g} in {recipe.dimension} dimensions"
    axes.set_title(title, fontsize=10)


def draw_error(axes, recipe: Recipe) -> None:
    """The variance that annealing leaves in excess, against epsilon, for several T; the least of each."""
    span = np.geomspace(recipe.epsilon / 30, min(recipe.epsilon * 30, 1.9 * recipe.sigma_min**2), 400)
    others = [steps for steps in (1, 3, 10, 30) if steps != recipe.steps]
    for steps in sorted([*others, recipe.steps]):
        curve = calibrate.annealing_error(span, recipe.sigma_min, recipe.ratio, steps)
        best = calibrate.step_size(recipe.sigma_min, recipe.ratio, steps)
        least = calibrate.annealing_error(best, recipe.sigma_min, recipe.ratio, steps)
        ours = steps == recipe.steps
        shade = plots.ORANGE if ours else (0.12, 0.37, 0.66, 0.35 + 0.15 * others.index(steps))
        axes.plot(
            span, curve, color=shade, linewidth=2 if ours else 1.2, label=f"T = {steps}: ε = {best:.2g}"
        )
        axes.plot(best, least, "o", color=shade, markersize=6 if ours else 4)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="ε, the Langevin step at the last level",
        ylabel="excess variance after a level",
    )
    axes.set_title(f"annealing error at the ratio {recipe.ratio:.4f}", fontsize=10)
    axes.legend(fontsize=8)


if __name__ == "__main__":
    main()

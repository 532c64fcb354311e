"""Any width of the parameters' average, made and judged after training.

    python -m experiments.digits --snapshot-every 50
    python -m experiments.ema --workdir runs/digits --sigma-rel 0.03 0.05 0.1 0.15 0.2

A run with `--snapshot-every` keeps two averages of its parameters every so many steps. Their weighted
sums come close to the average of any other relative width (Karras et al. 2024, section 3.2). This program
makes each width that is asked for, samples with it and evaluates the samples as the run did. Nothing is
trained. With `--step` it takes training to have ended at an earlier step.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
from msgspec import Meta

from jaxscore import checkpoint, ema, launch, sharding
from jaxscore.launch import console, evaluate, plots, programs, sample, workdir
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.flags import check, require
from jaxscore.launch.open_run import described, find
from jaxscore.launch.workdir import Refusal

POOR = 0.05
"""From this misfit on, the average only approximates that of the width, and a line says so."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Averages of any width, made and judged after training."""

    workdir: Path = Path("runs/digits")
    """Folder of a run with snapshots; what is found goes into its folder `ema`."""
    sigma_rel: tuple[Annotated[float, Meta(gt=0, le=ema.WIDEST)], ...] = (0.05, 0.1, 0.15)
    """Widths of averages in units of training time, in (0, 0.288]."""
    experiment: str | None = None
    """Module with the run's `build` and its configuration; experiments.NAME if it is not given."""
    step: int | None = None
    """Step of a snapshot at which training is taken to have ended; the last one if not given."""

    def __post_init__(self):
        check(self)
        given = " ".join(map(str, self.sigma_rel))
        require(len(self.sigma_rel) > 0, "sigma_rel", given, "needs at least one width")
        require(len(set(self.sigma_rel)) == len(self.sigma_rel), "sigma_rel", given, "has a width twice")


def opened(config: Config) -> Experiment:
    """Returns the experiment of the run. Raises Refusal if the folder has none."""
    try:
        return described(config.workdir, *find(config.workdir, config.experiment))
    except Refusal as error:
        raise Refusal(f"--workdir {error}") from None


def run(config: Config) -> dict[str, Any]:
    """Writes the metrics of every width to ema/ema.json, with the table and the figure; returns them."""
    experiment = opened(config)
    with workdir.locked(config.workdir):
        return _run(config, experiment)


def _run(config: Config, experiment: Experiment) -> dict[str, Any]:
    mesh = sharding.mesh()
    place = config.workdir / "ema"
    if place.exists() and not place.is_dir():
        raise Refusal(
            f"--workdir {config.workdir}: {place} is a file, where a folder is needed; move it away"
        )
    directory = config.workdir / "snapshots"
    results = []
    with checkpoint.snapshots(directory, read_only=True) as kept:
        steps = checkpoint.good_snapshots(kept, tell=console.say)
        if not steps:
            remedy = "train again in another folder, with --snapshot-every"
            raise Refusal(f"--workdir {config.workdir}: keeps no snapshots; {remedy}")
        step = steps[-1] if config.step is None else config.step
        require(step in steps, "step", step, f"has no snapshot; there are {_listed(steps)}")
        steps = [earlier for earlier in steps if earlier <= step]
        shapes = programs.abstract_state(experiment, mesh).ema
        for width in config.sigma_rel:
            params, misfit = reconstruct(kept, steps, shapes, width)
            poor = "; more snapshots would come closer" if misfit > POOR else ""
            console.say(f"sigma_rel {width:g}: {2 * len(steps)} averages, misfit {misfit:.2g}{poor}")
            params = jax.device_put(params, programs.places(shapes))
            samples, _ = sample.draw(experiment, params, mesh)
            metrics = evaluate.measure(experiment, params, samples)
            gamma = ema.gamma(width)
            results.append({"sigma_rel": width, "gamma": gamma, "misfit": misfit, "metrics": metrics})
    found = {"experiment": experiment.name, "step": step, "snapshots": len(steps), "widths": results}
    report(experiment, found, place)
    return found


def reconstruct(kept: checkpoint.Checkpoints, steps: list[int], shapes, width: float) -> tuple[Any, float]:
    """Returns the average of a width at the last of the steps, in NumPy, and its misfit."""
    kinds = [ema.gamma(kind) for kind in programs.PROFILES]
    at, gammas = np.repeat(steps, len(kinds)), np.tile(kinds, len(steps))
    weights = ema.posthoc_weights(at, gammas, steps[-1], ema.gamma(width))
    abstract = checkpoint.abstract_snapshot(shapes, len(kinds))
    averages = (average for step in steps for average in checkpoint.restore(kept, step, abstract).profiles)
    misfit = ema.misfit(weights, at, gammas, steps[-1], ema.gamma(width))
    return ema.combine(averages, weights), misfit


def _listed(steps: list[int]) -> str:
    few = steps if len(steps) <= 6 else [*steps[:3], "...", *steps[-2:]]
    return ", ".join(map(str, few))


# Report ---------------------------------------------------------------------------------------


def report(experiment: Experiment, found: dict[str, Any], folder: Path) -> None:
    """Writes ema.json and ema.png, and prints the table of all widths."""
    folder.mkdir(exist_ok=True)
    workdir.write_json(folder / "ema.json", found)
    console.say("\n" + console.table(table(experiment, found["widths"])) + "\n")
    picture(found, folder / "ema.png")
    console.say(f"picture: {folder / 'ema.png'}")


def table(experiment: Experiment, results: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Returns the experiment's own tables of all widths, one below the other."""
    rows = []
    for result in results:
        heading, *body = (experiment.table or evaluate.table)(result["metrics"])
        widths = [f"{result['sigma_rel']:g}", *[""] * len(body)]
        rows += [(width, *row) for width, row in zip(widths, body, strict=False)]
    return [("sigma_rel", *heading), *rows]


def curves(results: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Returns what is drawn: the Frechet distances of all samplers, or else the first changing number."""
    by_name: dict[str, list[float]] = {}
    for result in results:
        for path, value in jax.tree_util.tree_leaves_with_path(result["metrics"]):
            if isinstance(value, int | float) and not isinstance(value, bool):
                name = jax.tree_util.keystr(path, simple=True, separator="/").removeprefix("samplers/")
                by_name.setdefault(name, []).append(float(value))
    # A sampler's, not those of single judges below it, nor of real images, which do not depend on it.
    frechet = {name: c for name, c in by_name.items() if name.endswith("/frechet") and name.count("/") == 1}
    changing = {name: c for name, c in by_name.items() if len(set(c)) > 1} or by_name
    return frechet or dict(list(changing.items())[:1])


def picture(found: dict[str, Any], path: Path) -> None:
    """Draws each curve against the width."""
    results = sorted(found["widths"], key=lambda result: result["sigma_rel"])
    widths = [result["sigma_rel"] for result in results]
    with plots.page(path, columns=1, size=6.0, height=4.0) as (axes,):
        for name, values in curves(results).items():
            axes.plot(widths, values, "o-", label=name.removesuffix("/frechet").replace("_", " "))
            axes.set(ylabel="Frechet distance" if name.endswith("/frechet") else "")
        axes.set(xlabel="relative width of the average, σ_rel")
        axes.legend(fontsize=8)
        axes.set_title(f"{found['experiment']} after {found['step']} steps, by the width", fontsize=10)


if __name__ == "__main__":
    launch.program(run, Config())

"""The generative learning trilemma, measured: every family on one budget, its samples judged on three axes.

    python -m experiments.trilemma
    python -m experiments.trilemma --data 25gaussians --families gan,ddgan --denoising-steps 1 2 4 8

Each family is trained for as many steps as --tflops pay for, once with each seed, in a folder of its own,
from which a later run goes on. At the end there is one table, one page of samples, and one figure: the
triangle of sample quality, mode coverage and fast sampling (Xiao et al. 2022), and quality against
evaluations.
"""

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.families import budget, overrides
from experiments.families import setting as settings
from experiments.trilemma import report
from jaxscore import data, launch, metrics
from jaxscore.launch import console, flags, workdir
from jaxscore.launch.config import Config as RunConfig
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.flags import require
from jaxscore.launch.metrics_log import NonFinite

FAMILIES = ("gan", "vae", "flow", "ddpm", "ncsn", "edm", "ddgan")
"""Those that take part if nothing is said: modules of experiments/families."""

KNOWN = (*FAMILIES, "vanilla_gan", "vanilla_ddgan")
"""All of them."""

SAMPLES = {"25gaussians": 2500, "stacked_digits": 10_000, "digits": 1797}
"""As many as the data set's usual number of them, or DEFAULT."""

DEFAULT = 2000

RESULTS = ("settings", "sampling", "reaches", "bits")
"""Of what evaluation has found, what is kept besides the metrics."""

SHOWN = 64
"""Samples of each family in the picture, of images; of points 2,000."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which families, on which data, with which budget."""

    workdir: Path | None = None
    """Folder of all runs and of the results; runs/trilemma/DATA if nothing is said."""
    families: str = ",".join(FAMILIES)
    """Which are compared, with commas in between."""
    data: str = "digits"
    """25gaussians, digits, stacked_digits, fashion_mnist, cifar10, or another data set of jaxscore.data."""
    data_dir: Path | None = None
    """Where it is, if not in its usual place."""
    tflops: float = 3.0
    """Training budget of each family and seed, in 10^12 floating-point operations."""
    seeds: int = 3
    """How often each family is trained: with seeds 0, 1, ..."""
    denoising_steps: tuple[int, ...] = (2, 4)
    """T of the denoising diffusion GAN; each is a family of its own."""
    samples: int | None = None
    """How many each sampler draws; by the data set if nothing is said."""

    def __post_init__(self):
        for name in self.families.split(","):
            remedy = f"{name!r} is not known; use {','.join(KNOWN)}, with commas in between"
            require(name in KNOWN, "families", self.families, remedy)
        require(self.tflops > 0 and np.isfinite(self.tflops), "tflops", self.tflops, "must be positive")
        require(self.seeds >= 1, "seeds", self.seeds, "must be at least 1")
        wrong = " ".join(map(str, self.denoising_steps))
        fine = self.denoising_steps and min(self.denoising_steps) >= 1
        require(bool(fine), "denoising_steps", wrong, "must be 1 or more each")
        few = self.samples is None or self.samples >= 4
        require(few, "samples", self.samples, "must be at least 4: recall looks at 3 neighbours")


class Member(NamedTuple):
    """A family as it takes part: its module, and the name it goes by."""

    name: str
    module: Any
    config: RunConfig


def members(config: Config, folder: Path, seed: int) -> list[Member]:
    """The families in the order asked for, each with the seed and a folder of its own."""
    found = []
    for family in dict.fromkeys(config.families.split(",")):
        recipe = overrides.recipe(family, config.data)
        for steps in config.denoising_steps if hasattr(recipe, "denoising_steps") else (None,):
            name = family if steps in (None, 4) else f"{family}{steps}"
            own = {} if steps is None else {"denoising_steps": steps}
            own |= {"data_dir": config.data_dir, "seed": seed, "workdir": folder / f"{name}-{seed}"}
            own |= {"samples": config.samples or SAMPLES.get(config.data, DEFAULT)}
            module = importlib.import_module(f"experiments.families.{family}")
            found.append(Member(name, module, dataclasses.replace(recipe, **own)))
    return found


def run(config: Config) -> dict[str, Any]:
    """Train, sample and judge whatever is missing; returns what is written to trilemma.json.

    Raises FlagError, Refusal, data.DataError, CheckpointError, and Interrupted after a signal.
    """
    folder = config.workdir or Path("runs") / "trilemma" / config.data.replace("/", "-").replace(":", "-")
    workdir.claim(folder, {"experiment": "trilemma", "data": config.data})
    with workdir.locked(folder):
        workdir.write_json(folder / "config.json", {"experiment": "trilemma", "data": config.data})
        jobs = [member for seed in range(config.seeds) for member in members(config, folder, seed)]
        outcomes: dict[str, list] = {}
        for job in console.runs(jobs, lambda job: f"{job.name}, seed {job.config.seed}"):
            outcomes.setdefault(job.name, []).append(outcome(job, config.tflops * 1e12))
        rows = [row for name, runs in outcomes.items() for row in rows_of(name, runs)]
        runs = [run for runs in outcomes.values() for run in runs if "settings" in run]
        about = runs[0]["settings"] if runs else {}
        result = {"data": config.data, "tflops": config.tflops, "settings": about, "rows": rows}
        workdir.write_json(folder / "trilemma.json", result)
        (folder / "report").mkdir(exist_ok=True)
        for part in report.tables(rows):
            console.say("\n" + console.table(part))
        console.say("\n" + report.about(about, config.seeds) + "\n")
        pictures = report.pictures(rows, shown(config, folder, outcomes), folder / "report")
        for picture in pictures:
            console.say(f"picture: {picture}")
    return result


def outcome(job: Member, flops: float) -> dict[str, Any]:
    """What a family with a seed has come to, from its file if that is of the same recipe and budget."""
    path = job.config.workdir.with_suffix(".json")
    asked = workdir.describe(job.name, job.config) | {"flops": flops}
    asked = json.loads(json.dumps(asked, default=str))
    asked.pop("steps")
    found = workdir.read_json(path)
    if found is not None and found["asked"] == asked:
        return found
    config, each = budget.within(job.module.build, job.config, flops)
    experiment = job.module.build(config)
    _refuse_another_recipe(experiment)
    try:
        with console.muted():
            launch.run(experiment, config.workdir, mode="train")
            launch.run(experiment, config.workdir, mode="sample")
            results = launch.run(experiment, config.workdir, mode="evaluate")
    except NonFinite as error:
        found = {"asked": asked, "diverged": str(error)}
    else:
        finite = {name: row for name, row in results["samplers"].items() if row.pop("finite")}
        found = {
            "asked": asked,
            "steps": config.steps,
            "training_flops": config.steps * each,
            "training_seconds": training_seconds(config.workdir / "metrics.jsonl", config.steps),
            "parameters": parameters(experiment),
            "evaluations": evaluations(job),
            "samples": config.samples,
            "samplers": finite,
            "all_samplers": list(results["samplers"]),
            **{name: results[name] for name in RESULTS if name in results},
        }
    workdir.write_json(path, found)
    return found


def _refuse_another_recipe(experiment: Experiment) -> None:
    """Going on from a checkpoint that another recipe or budget has led to would be no run of this one."""
    folder = experiment.config.workdir
    before = workdir.read_json(folder / "config.json")
    if before is None:
        return
    now = workdir.describe(experiment.name, experiment.config)
    changed = [change for change in workdir.changes(before, now) if not change.startswith("samples: ")]
    if changed:
        remedy = "move it away, or name another --workdir"
        raise workdir.Refusal(f"{folder} is of another recipe ({'; '.join(changed)}); {remedy}")


def evaluations(job: Member) -> dict[str, int]:
    """Of the network for a sample, by sampler."""
    return job.module.evaluations(job.config)


def training_seconds(log: Path, steps: int) -> float:
    """So many steps at the log's median pace: without compilation, which is in the first interval alone."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return steps / float(np.median([line["steps_per_second"] for line in lines]))


def parameters(experiment) -> int:
    """Of what is sampled from: of a GAN the generator's."""
    shapes = jax.eval_shape(lambda key: experiment.averaged(experiment.init(key)), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def rows_of(name: str, runs: list[dict[str, Any]]) -> list[report.Row]:
    """A row for each sampler, as `trilemma_report` has them; one without values where all seeds diverged."""
    trained = [run for run in runs if "diverged" not in run]
    lost = {
        "family": name,
        "training_seconds": [],
        "metrics": {},
        "seconds_per_1000": [],
        "compile_seconds": [],
        "reaches": {},
    }
    if not trained:
        blank = {"sampler": "", "parameters": 0, "evaluations": 0, "training_flops": 0.0}
        return [lost | blank | {"diverged": len(runs)}]
    rows, first = [], trained[0]
    for sampler in first["all_samplers"]:
        fine = [run for run in trained if sampler in run["samplers"]]
        shared = {key: first[key] for key in ("parameters", "training_flops")}
        row = lost | shared | {"sampler": sampler, "evaluations": first["evaluations"][sampler]}
        row["diverged"] = len(runs) - len(fine)
        row["training_seconds"] = [run["training_seconds"] for run in fine]
        row["seconds_per_1000"] = [
            1000 * run["sampling"][sampler]["seconds"] / run["samples"] for run in fine
        ]
        row["compile_seconds"] = [run["sampling"][sampler]["compile_seconds"] for run in fine]
        names = fine[0]["samplers"][sampler] if fine else {}
        row["metrics"] = {key: [run["samplers"][sampler][key] for run in fine] for key in names}
        if fine and "bits" in first:
            row["metrics"]["bits"] = [run["bits"] for run in fine]
        row["reaches"] = fine[0]["reaches"][sampler] if len(fine) == 1 else {}
        several = row["metrics"] if len(fine) > 1 else {}
        row["intervals"] = {key: metrics.over_seeds(values)._asdict() for key, values in several.items()}
        rows.append(row)
    return rows


def shown(config: Config, folder: Path, outcomes: dict[str, list]) -> dict[str, np.ndarray]:
    """Examples of the data, and the first samples of each family's first seed, by sampler."""
    few = lambda x: x[: 2000 if x.ndim == 2 else SHOWN]
    found = {"data": few(data.pixels.unit(np.asarray(settings.of(config.data, config.data_dir).held_out)))}
    for name, runs in outcomes.items():
        if "diverged" in runs[0]:
            continue
        for sampler, x in workdir.read_samples(folder / f"{name}-0" / "samples.npz")[0].items():
            if sampler in runs[0]["samplers"]:
                found[f"{name}, {sampler}"] = few(x)
    return found


def main() -> None:
    """Parse flags and run; bad input is one line on standard error and exit status 2."""
    with launch.one_line_errors():
        config = flags.parse(Config())
        run(config)

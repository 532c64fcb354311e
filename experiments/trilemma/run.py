"""The generative learning trilemma: families of models compared on the same training budget.

    python -m experiments.trilemma
    python -m experiments.trilemma --data 25gaussians --families gan,ddgan --denoising-steps 1 2 4 8

Trains each family once for each seed, for as many steps as --tflops allow. Each training has a folder of its
own, from which the next run resumes. The results are a table, a page of samples, and a figure: the triangle
of sample quality, mode coverage and fast sampling (Xiao et al. 2022), and quality against evaluations.
"""

import dataclasses
import importlib
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
from msgspec import Meta

from experiments.families import budget, overrides
from experiments.families import setting as settings
from experiments.trilemma import report
from jaxscore import data, launch, metrics, plan
from jaxscore.launch import console, fid, metrics_log, provenance, workdir
from jaxscore.launch.config import Config as RunConfig
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.flags import Count, Positive, check, require
from jaxscore.launch.metrics_log import NonFinite

FAMILIES = ("gan", "vae", "flow", "ddpm", "ncsn", "edm", "ddgan", "distilled", "reflow")
"""Families that are compared by default: modules of experiments/families."""

KNOWN = (*FAMILIES, "consistency", "vanilla_gan", "vanilla_ddgan")
"""All families."""

SAMPLES = {"25gaussians": 2500, "stacked_digits": 10_000, "digits": 1797}
"""Number of samples by data set: as many as are usually taken for this data set."""

DEFAULT = 2000
"""Number of samples for all other data sets."""

RESULTS = ("settings", "sampling", "reaches", "bits", fid.KEY)
"""Parts of the evaluation's results that are stored besides the metrics."""

SHOWN = 64
"""Images of each sampler in the picture; points are 2,000."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The generative learning trilemma: families of models compared on the same training budget."""

    workdir: Path | None = None
    """Folder of all trainings and of the results; by default runs/trilemma/DATA."""
    families: str = ",".join(FAMILIES)
    """Families to compare, separated by commas."""
    data: str = "digits"
    """25gaussians, digits, stacked_digits, fashion_mnist, cifar10, or another data set of jaxscore.data."""
    data_dir: Path | None = None
    """Folder of the data set, if it is not in its usual place."""
    tflops: Positive = 3.0
    """Training budget of each family and seed, in 10^12 floating-point operations."""
    seeds: Count = 3
    """Trainings of each family, with seeds 0, 1, ..."""
    denoising_steps: tuple[Count, ...] = (2, 4)
    """T of the denoising diffusion GAN; each T is compared as a family of its own."""
    samples: Annotated[int, Meta(ge=4)] | None = None  # recall looks at 3 neighbours
    """Samples of each sampler; by default a number that suits the data set."""
    inception: Path | None = None
    """File of pytorch-fid's Inception weights, pt_inception-2015-12-05-6726825d.pth; adds the FID."""
    fid_reference: Path | None = None
    """File .npz with mu and sigma of the FID's reference images; by default the data."""

    def __post_init__(self):
        check(self)
        for name in self.families.split(","):
            remedy = f"{name!r} is not known; use {','.join(KNOWN)}, with commas in between"
            require(name in KNOWN, "families", self.families, remedy)
        require(bool(self.denoising_steps), "denoising_steps", "", "needs at least one number")


class Member(NamedTuple):
    """A training: the name of the family in the results, its module and its configuration."""

    name: str
    module: Any
    config: RunConfig


def members(config: Config, folder: Path, seed: int) -> list[Member]:
    """Trainings of all families with this seed, in the order of --families, each with a folder of its own."""
    found = []
    for family in dict.fromkeys(config.families.split(",")):
        defaults = overrides.recipe(family, config.data)
        for steps in (
            dict.fromkeys(config.denoising_steps) if hasattr(defaults, "denoising_steps") else (None,)
        ):
            name = family if steps in (None, 4) else f"{family}{steps}"
            own = {} if steps is None else {"denoising_steps": steps}
            own |= {"data_dir": config.data_dir, "seed": seed, "workdir": folder / f"{name}-{seed}"}
            own |= {"samples": config.samples or SAMPLES.get(config.data, DEFAULT)}
            own |= {"inception": config.inception, "fid_reference": config.fid_reference}
            module = importlib.import_module(f"experiments.families.{family}")
            found.append(Member(name, module, dataclasses.replace(defaults, **own)))
    return found


def run(config: Config) -> dict[str, Any]:
    """Returns the results, which are also in trilemma.json. Makes only those that are missing in the folder.

    Raises FlagError, Refusal, data.DataError, CheckpointError, and Interrupted after a signal.
    """
    folder = config.workdir or Path("runs") / "trilemma" / config.data.replace("/", "-").replace(":", "-")
    settings.of(config.data, config.data_dir, None)  # absent data are refused before anything is written
    with workdir.owned(folder, {"experiment": "trilemma", "data": config.data}):
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
        notes = runs[0].get(fid.KEY, {}).get("notes", []) if runs else []
        console.say("\n".join(["", report.about(about, config.seeds), *notes, ""]))
        pictures = report.pictures(rows, shown(config, folder, outcomes), folder / "report")
        for picture in pictures:
            console.say(f"picture: {picture}")
    return result


def outcome(job: Member, flops: float) -> dict[str, Any]:
    """Results of one training. They are read from its file if that has the same description and budget."""
    path = job.config.workdir.with_suffix(".json")
    asked = provenance.describe(job.module.build(job.config), job.config.workdir) | {"flops": flops}
    asked.pop("steps")  # they follow from the budget
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
            "evaluations": job.module.evaluations(job.config),
            "samples": config.samples,
            "samplers": finite,
            "all_samplers": list(results["samplers"]),
            **{name: results[name] for name in RESULTS if name in results},
        }
    workdir.write_json(path, found)
    return found


def _refuse_another_recipe(experiment: Experiment) -> None:
    """Raises Refusal if the folder has a training with another configuration or budget."""
    folder = experiment.config.workdir
    before = workdir.read_json(folder / "config.json")
    if before is None:
        return
    now = provenance.describe(experiment, folder)
    changed = [change for change in workdir.changes(before, now) if not change.startswith("samples: ")]
    if changed:
        remedy = "move it away, or name another --workdir"
        raise workdir.Refusal(f"{folder} is of another recipe ({'; '.join(changed)}); {remedy}")


def training_seconds(log: Path, steps: int) -> float:
    """Seconds for this number of steps at the median speed in metrics.jsonl.

    The median excludes compilation, which slows down the first interval only.
    """
    return steps / float(np.median([row["steps_per_second"] for row in metrics_log.read(log)]))


def parameters(experiment: Experiment) -> int:
    """Number of parameters that sampling needs; those of the generator for a GAN."""
    needed = lambda key: experiment.averaged(experiment.init(key))
    return plan.parameters(jax.eval_shape(needed, jax.random.key(0)))


def rows_of(name: str, runs: list[dict[str, Any]]) -> list[report.Row]:
    """A row for each sampler, as described in report.py; one row without values if all seeds diverged."""
    trained = [run for run in runs if "diverged" not in run]
    nothing = {"all_samplers": [""], "parameters": 0, "evaluations": {"": 0}, "training_flops": 0.0}
    first = trained[0] if trained else nothing
    return [row_of(name, sampler, first, trained, len(runs)) for sampler in first["all_samplers"]]


def row_of(name: str, sampler: str, first: dict[str, Any], trained: list[dict], seeds: int) -> report.Row:
    """The row of a sampler.

    Args:
        name: name of the family.
        sampler: name of the sampler.
        first: results from which values are taken that are the same for all seeds.
        trained: results of the seeds that did not diverge.
        seeds: number of all seeds.
    """
    fine = [run for run in trained if sampler in run["samplers"]]
    timed = [run["sampling"][sampler] | {"samples": run["samples"]} for run in fine]
    names = fine[0]["samplers"][sampler] if fine else ()
    defined = lambda value: float("nan") if value is None else value
    values = {key: [defined(run["samplers"][sampler].get(key)) for run in fine] for key in names}
    if fine and "bits" in first:
        values["bits"] = [run["bits"] for run in fine]
    return {
        "family": name,
        "sampler": sampler,
        "parameters": first["parameters"],
        "evaluations": first["evaluations"][sampler],
        "training_flops": first["training_flops"],
        "training_seconds": [run["training_seconds"] for run in fine],
        "seconds_per_1000": [1000 * each["seconds"] / each["samples"] for each in timed],
        "compile_seconds": [each["compile_seconds"] for each in timed],
        "diverged": seeds - len(fine),
        "metrics": values,
        "reaches": fine[0]["reaches"][sampler] if len(fine) == 1 else {},
        "intervals": {k: metrics.over_seeds(v)._asdict() for k, v in values.items() if len(v) > 1},
    }


def shown(config: Config, folder: Path, outcomes: dict[str, list]) -> dict[str, np.ndarray]:
    """Examples of the data, and the first samples of each sampler from each family's first training."""
    few = lambda x: x[: 2000 if x.ndim == 2 else SHOWN]
    held_out = settings.of(config.data, config.data_dir, None).held_out
    found = {"data": few(data.pixels.unit(np.asarray(held_out)))}
    for name, runs in outcomes.items():
        if "diverged" in runs[0]:
            continue
        for sampler, x in workdir.read_samples(folder / f"{name}-0" / "samples.npz")[0].items():
            if sampler in runs[0]["samplers"]:
                found[f"{name}, {sampler}"] = few(x)
    return found

"""Effect of the five techniques of Song & Ermon 2020: NCSN, and a run with one more technique each time."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxscore import launch
from jaxscore.launch import console, metrics_log, plots, workdir
from jaxscore.launch.evaluate import FID, cell

ORIGINAL = {"network": "ncsn", "sigma_max": 1.0, "levels": 10, "epsilon": 2e-5, "ema_decay": 0.0}
"""Flags of NCSN (Song & Ermon 2019), without any of the techniques."""

TECHNIQUES = {
    "NCSN": (),
    "+ sigma_1 from the data": ("sigma_max",),
    "+ levels that overlap": ("levels", "langevin_steps"),
    "+ division by sigma": ("network",),
    "+ step size": ("epsilon",),
    "+ averaged parameters": ("ema_decay",),
}
"""Techniques in the paper's order. Each one changes these flags from NCSN's values to the recipe's."""


COLORS = {"without_denoising": plots.ORANGE, "samples": plots.BLUE}
"""Colours of the bars, by the name of the samples."""

SAMPLING = ("epsilon", "langevin_steps")
"""Flags that do not affect training."""


def variants(config: Any) -> dict[str, Any]:
    """Returns the configurations by name, each with a folder of its own; the last one is the recipe itself.

    NCSN takes as many Langevin steps in total as the recipe does, so all configurations have the same cost.
    """
    steps = max(1, round(config.levels * config.langevin_steps / ORIGINAL["levels"]))
    fields = {**ORIGINAL, "langevin_steps": steps}
    found = {}
    for number, (name, added) in enumerate(TECHNIQUES.items()):
        fields |= {field: getattr(config, field) for field in added}
        folder = config.workdir / (f"{number}" if number < len(TECHNIQUES) - 1 else "all")
        found[name] = dataclasses.replace(config, **fields, workdir=folder, ablate=False)
    return found


def share_training(variant: Any, earlier: list[Any]) -> None:
    """Copies the training of an earlier variant that differs only in flags of sampling, if there is one."""
    same = dict.fromkeys(SAMPLING) | {"workdir": None}
    trains = lambda config: dataclasses.asdict(config) | same
    alike = [other for other in earlier if other.workdir.exists() and trains(other) == trains(variant)]
    if not alike or variant.workdir.exists() or variant.mode not in ("all", "train"):
        return
    made_later = shutil.ignore_patterns("samples.npz", "sampling.json", "metrics.json", "report")
    copy = variant.workdir.with_suffix(".tmp")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(alike[-1].workdir, copy, ignore=made_later)
    copy.rename(variant.workdir)


def run(build: Callable, config: Any) -> dict[str, Any]:
    """Returns the results of the variants by name, and writes one table and one figure of them.

    Trains, samples and evaluates each variant, as far as an earlier run has not done it.
    """
    rows, grids, found = {}, {}, variants(config)
    for number, (name, variant) in enumerate(found.items()):
        console.say(f"\n{name}: {variant.workdir}")
        share_training(variant, list(found.values())[:number])
        results = launch.run(build(variant), variant.workdir, mode=config.mode)
        if not results:
            continue
        grids[name] = workdir.read_samples(variant.workdir / "samples.npz")[0]["samples"]
        rows[name] = {**results, "training_seconds": training_seconds(variant.workdir / "metrics.jsonl")}
    if rows:
        workdir.write_json(config.workdir / "ablation.json", rows)
        picture(rows, grids, config.workdir / "ablation.png")
        console.say("\n" + console.table(table(rows)) + f"\n\npicture: {config.workdir / 'ablation.png'}")
    return rows


def training_seconds(path: Path) -> float:
    """Returns the seconds that training took, from the logged speeds."""
    total, before = 0.0, 0
    for row in metrics_log.read(path):
        total += (row["step"] - before) / max(row["steps_per_second"], 0.005)  # logged to 0.01
        before = row["step"]
    return total


def table(rows: dict[str, Any]) -> list[tuple[str, ...]]:
    """Returns a row for each variant."""
    fid = FID if any("fid" in row["samples"] for row in rows.values()) else {}
    heading = ("evaluations", "Frechet", "not denoised", "precision", "recall", *fid.values())
    lines = [("", *heading, "training s", "sampling s")]
    for name, row in rows.items():
        found = row["samples"]
        seconds = row["training_seconds"], row["sampling"]["langevin"]["seconds"]
        lines.append(
            (
                name,
                str(found["evaluations"]),
                f"{found['frechet']:.2f}",
                f"{row['without_denoising']['frechet']:.2f}",
                f"{found['precision']:.3f}",
                f"{found['recall']:.3f}",
                *(cell(found, name) for name in fid),
                *(f"{value:.0f}" for value in seconds),
            )
        )
    return lines


def picture(rows: dict[str, Any], grids: dict[str, Any], path: Path) -> None:
    """Draws the Frechet distance of every variant, and samples of each variant."""
    with plots.page(path, columns=4, rows=-(-(len(rows) + 1) // 4), size=3.0, height=3.3) as (bars, *axes):
        places = range(len(rows))
        distances = {which: [row[which]["frechet"] for row in rows.values()] for which in COLORS}
        for shift, which in zip((-0.2, 0.2), COLORS, strict=True):
            label = which.replace("_", " ").replace("samples", "denoised")
            at = [place + shift for place in places]
            bars.barh(at, distances[which], 0.4, color=COLORS[which], label=label)
        everything = [distance for values in distances.values() for distance in values]
        if max(everything) > 20 * min(everything):
            bars.set_xscale("log")
        bars.set(xlabel="Fréchet distance")
        bars.set_yticks(list(places), rows, fontsize=8)
        bars.invert_yaxis()
        bars.legend(fontsize=7, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        for place, (name, row) in zip(axes, rows.items(), strict=False):
            plots.images(place, grids[name][:36], rows=6, title=f"{name}: {row['samples']['frechet']:.2f}")
        for place in axes[len(rows) :]:
            place.set_axis_off()

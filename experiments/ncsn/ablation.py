"""What each of the five techniques of Song & Ermon 2020 adds to NCSN: a run for each, with one more."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxscore import launch
from jaxscore.launch import console, metrics_log, plots, workdir

ORIGINAL = {"network": "ncsn", "sigma_max": 1.0, "levels": 10, "epsilon": 2e-5, "ema_decay": 0.0}
"""NCSN (Song & Ermon 2019), which had none of them."""

TECHNIQUES = {
    "NCSN": (),
    "+ sigma_1 from the data": ("sigma_max",),
    "+ levels that overlap": ("levels", "langevin_steps"),
    "+ division by sigma": ("network",),
    "+ step size": ("epsilon",),
    "+ averaged parameters": ("ema_decay",),
}
"""In the paper's order; each with the flags that it changes from NCSN's to the recipe's."""


COLORS = {"without_denoising": plots.ORANGE, "samples": plots.BLUE}
"""Of the bars, by the name of the samples."""

SAMPLING = ("epsilon", "langevin_steps")
"""Flags that training does not look at."""


def variants(config: Any) -> dict[str, Any]:
    """The configurations, each in a folder of its own; the last is the recipe itself.

    NCSN takes as many Langevin steps in all as the recipe does, so that all have the same cost.
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
    """Begin in a copy of the training of an earlier variant, if there is one that trains alike."""
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
    """Every variant, trained, sampled and judged unless it is; then one table and one figure."""
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
    """How long training took, from the speeds that were logged."""
    total, before = 0.0, 0
    for row in metrics_log.read(path):
        total += (row["step"] - before) / max(row["steps_per_second"], 0.005)  # logged to 0.01
        before = row["step"]
    return total


def table(rows: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row for each variant."""
    lines = [
        ("", "evaluations", "Frechet", "not denoised", "precision", "recall", "training s", "sampling s")
    ]
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
                *(f"{value:.0f}" for value in seconds),
            )
        )
    return lines


def picture(rows: dict[str, Any], grids: dict[str, Any], path: Path) -> None:
    """The Frechet distance of every variant, and samples of each."""
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
        bars.legend(fontsize=7)
        for place, (name, row) in zip(axes, rows.items(), strict=False):
            plots.images(place, grids[name][:36], rows=6, title=f"{name}: {row['samples']['frechet']:.2f}")
        for place in axes[len(rows) :]:
            place.set_axis_off()

"""The launcher's evaluation: metrics.json, the table and the pictures, from the samples in the folder."""

from pathlib import Path
from typing import Any

from jaxscore.launch import console, metrics_log, workdir
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.workdir import Refusal


def evaluate(experiment: Experiment, folder: Path, params, stamp: str) -> dict[str, Any]:
    """metrics.json, the table and the pictures, made again only if they are out of date."""
    path, report = folder / "metrics.json", folder / "report"
    found = workdir.read_json(path)
    pictures = sorted(report.glob("*.png"))
    if found is None or found.get("stamp") != stamp or not pictures:
        samples, made_from = workdir.read_samples(folder / "samples.npz")
        if made_from != stamp:
            raise Refusal(f"--mode evaluate: {folder} has no samples of its newest checkpoint; sample first")
        metrics = experiment.evaluate(params, samples)
        report.mkdir(exist_ok=True)
        pictures = experiment.report(params, samples, metrics_log.read(folder / "metrics.jsonl"), report)
        sampling = workdir.read_json(folder / "sampling.json")
        found = {**metrics, "sampling": sampling, "stamp": stamp}
        workdir.write_json(path, found)
    console.say("\n" + console.table(experiment.table(found)) + "\n")
    for picture in pictures:
        console.say(f"picture: {picture}")
    return found

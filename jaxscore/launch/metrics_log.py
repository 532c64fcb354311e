"""Metrics of training: fetched from the device, averaged over an interval, and written to metrics.jsonl."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscore.trainer import Metrics, TrainState

PATIENCE = 20
"""Number of steps in a row that may be skipped before the run ends."""


class NonFinite(Exception):
    """Training has become infinite or nan; the message names the step and the last finite loss."""


class Logbook:
    """metrics.jsonl, with a JSON object for each interval, and the metrics of the current interval.

    Metrics stay on the device until `close_interval` or `check`. Opening a logbook at `step` drops later
    lines, because the resumed run writes them again.

    Args:
        path: path of metrics.jsonl.
        step: number of steps done.
        events: folder of TensorBoard events, which get every line too (needs tensorboardX).
        writes: whether this process writes the files; one of several processes does.
    """

    def __init__(self, path: Path, step: int, *, events: Path | None = None, writes: bool = True):
        self.path, self.step, self.writes = path, step, writes
        self.events = None
        if events and writes:
            from tensorboardX import SummaryWriter  # optional: the extra [tensorboard]

            self.events = SummaryWriter(str(events))
        self.rows = [row for row in read(path) if row["step"] <= step]
        if writes:
            path.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        self.interval: list[Metrics] = []
        self.losses: list[float] = []
        self.in_a_row, self.checked = 0, step
        self.last_finite: str = "there was none"

    def append(self, metrics: Metrics) -> int:
        """Records a step's metrics; returns the number of steps done."""
        self.interval.append(metrics)
        self.step += 1
        return self.step

    def check(self) -> list[Metrics]:
        """Fetches and returns the metrics of the current interval.

        Skipped steps may have non-finite metrics, but PATIENCE of them in a row raise too.

        Raises:
            NonFinite: if the loss or the gradient of a step that was not skipped is not finite.
        """
        self.interval = jax.device_get(self.interval)
        first = self.step - len(self.interval) + 1
        for number, metrics in enumerate(self.interval, first):
            new, skipped = number > self.checked, bool(metrics.get("skipped"))
            if new:
                self.in_a_row = self.in_a_row + 1 if skipped else 0
            if self.in_a_row == PATIENCE:
                raise NonFinite(f"the {PATIENCE} steps up to {number} had no finite loss and gradient")
            if skipped:
                continue
            for name in ("loss", "grad_norm"):
                if not math.isfinite(metrics[name]):
                    raise NonFinite(
                        f"{name} is {metrics[name]} at step {number}; last finite loss: {self.last_finite}"
                    )
            self.last_finite = f"{metrics['loss']:.6g} at step {number}"
            if new:
                self.losses.append(float(metrics["loss"]))
        self.checked = self.step
        return self.interval

    def loss_since_save(self) -> float | None:
        """Mean loss of the steps since the last call, after `check`; None if all of them were skipped."""
        self.check()
        losses, self.losses = self.losses, []
        return float(np.mean(losses)) if losses else None

    def close_interval(self) -> dict[str, Any]:
        """Averages of the interval, after `check`; the loss in each bin of sigma is None for an empty bin."""
        steps, self.interval = self.check(), []
        interval = [metrics for metrics in steps if not metrics.get("skipped")]
        if not interval:
            return {"loss": None, "grad_norm": None, "skipped": len(steps)}
        bins = [metrics["by_sigma"] for metrics in interval if "by_sigma" in metrics]
        scalars = [{k: v for k, v in metrics.items() if k != "by_sigma"} for metrics in interval]
        row = {name: float(np.mean([metrics[name] for metrics in scalars])) for name in scalars[0]}
        if "skipped" in row:
            row["skipped"] = len(steps) - len(interval)
        if bins:
            total, count = (sum(b[name] for b in bins) for name in ("total", "count"))
            row["loss_by_sigma"] = [float(t / c) if c else None for t, c in zip(total, count, strict=True)]
            row["sigma_edges"] = [float(f"{edge:.6g}") for edge in bins[0]["edges"]]
        return row

    def write(self, row: dict[str, Any]) -> None:
        """Adds a line to metrics.jsonl, and to the TensorBoard events."""
        self.rows.append(row)
        if not self.writes:
            return
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self.events:
            for name, value in _flat(row):
                self.events.add_scalar(name, value, row["step"])

    def close(self) -> None:
        """Writes the remaining TensorBoard events; metrics.jsonl is always complete."""
        if self.events:
            self.events.close()


def read(path: Path) -> list[dict[str, Any]]:
    """Lines of a metrics.jsonl, except one that a crash cut short; an empty list without a file."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def require_finite(state: TrainState) -> None:
    """Raises NonFinite if a parameter, its average or the optimiser's state is not finite."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    if not bool(_all_finite(leaves)):
        raise NonFinite(f"a parameter is not finite after step {int(state.step)}")


def _flat(row: dict[str, Any]) -> list[tuple[str, float]]:
    """Numbers of a row; elements of lists are named name/index."""
    flat = [(name, value) for name, value in row.items() if isinstance(value, float)]
    lists = [(name, values) for name, values in row.items() if isinstance(values, list)]
    return flat + [(f"{name}/{i}", v) for name, vs in lists for i, v in enumerate(vs) if v is not None]


@jax.jit
def _all_finite(leaves: list) -> jax.Array:
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]))

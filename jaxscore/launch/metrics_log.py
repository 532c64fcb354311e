"""Training metrics: fetched from the device, averaged over a log interval, written to metrics.jsonl."""

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscore.launch.tensorboard import Events
from jaxscore.trainer import Metrics, TrainState
from jaxscore.types import Params

PATIENCE = 20
"""The run ends when so many steps in a row have been skipped."""


NONE_YET = "there was none"
"""Said of the last finite loss if the first loss is not finite."""


class NonFinite(Exception):
    """A loss, gradient or parameter is not finite; the text names the step and the last finite loss."""


class Logbook:
    """metrics.jsonl, with a JSON object per log interval, and the metrics of the current interval.

    Metrics stay on the device until `check` or `close_interval`. Opening a logbook at `step` drops later
    lines, because the resumed run writes them again. Every line is also one of TensorBoard's events in the
    folder `events`, if given. If several processes share the run, only one of them `writes`.
    """

    def __init__(self, path: Path, step: int, *, events: Path | None = None, writes: bool = True):
        self.path, self.step, self.writes = path, step, writes
        self.events = Events(events) if events and writes else None
        self.rows = [row for row in read(path) if row["step"] <= step]
        if writes:
            path.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        self.interval: list[Metrics] = []
        self.losses: list[float] = []
        self.in_a_row, self.checked = 0, step
        self.last_finite = NONE_YET

    def append(self, metrics: Metrics) -> int:
        """Adds the metrics of a step; returns the number of steps done."""
        self.interval.append(metrics)
        self.step += 1
        return self.step

    def check(self) -> list[Metrics]:
        """Fetches the interval's metrics. Raises NonFinite if a loss or gradient norm is not finite.

        Skipped steps may have non-finite metrics, but PATIENCE of them in a row raise too.
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
        """Returns the mean loss since the last call; None if all steps were skipped. Raises as `check`."""
        self.check()
        losses, self.losses = self.losses, []
        return float(np.mean(losses)) if losses else None

    def close_interval(self) -> dict[str, Any]:
        """Returns `averages`, and starts the next interval."""
        row = self.averages()
        self.interval = []
        return row

    def averages(self) -> dict[str, Any]:
        """Returns the interval's averages, and the loss of each bin of sigma (None for an empty bin).

        Skipped steps do not count. Raises as `check`.
        """
        steps = self.check()
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
        """Appends a line."""
        self.rows.append(row)
        if not self.writes:
            return
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self.events:
            self.events.row(row)

    def picture(self, name: str, path: Path) -> None:
        """Adds the picture in the file to TensorBoard's events, if there are any."""
        if self.events:
            self.events.picture(name, path, self.step)

    def histograms(self, params: Params) -> None:
        """Adds histograms of the parameters to TensorBoard's events, if there are any."""
        if self.events:
            self.events.histograms(params, self.step)

    def close(self) -> None:
        """Flushes pending TensorBoard events; metrics.jsonl is always complete."""
        if self.events:
            self.events.close()


def read(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of a metrics.jsonl; [] if there is no file. Skips lines that are cut or damaged."""
    rows = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError, RecursionError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get("step"), int)]


def require_finite(state: TrainState) -> None:
    """Raises NonFinite if a parameter, an average or the optimiser's state is not finite."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    if not bool(_all_finite(leaves)):
        raise NonFinite(f"a parameter is not finite after step {int(state.step)}")


@jax.jit
def _all_finite(leaves: list) -> jax.Array:
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]))

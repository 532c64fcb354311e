"""The data of the page `docs/tutorials/moving.md`: two scores on grids, and the rows of the trilemma.

    python -m experiments.lecture --run runs/toy2d --trilemma runs/trilemma/digits

Nothing is trained. The page computes in the reader's browser, where the network would be too slow. A browser
that opens the page from a file can load a script but no JSON, so the data are a script of one constant.
--trilemma also takes the page of results, docs/results/trilemma.md, whose tables are then read.
"""

import base64
import dataclasses
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import toy2d
from experiments.trilemma import report
from experiments.trilemma.run import FAMILIES
from jaxscore import launch, mixtures, samplers
from jaxscore.launch import Refusal, console, workdir
from jaxscore.launch.flags import require
from jaxscore.types import Array, ScoreFn

POINTS = 35
"""Points of the grid along each axis. The page interpolates linearly between them. The relative RMS error of
interpolation is at most 0.8 % over p_sigma; the learned score differs from the exact one by 2 %."""

REACH = 4.0
"""Half the width of the grid, in standard deviations of the starting points."""

CONSTANT = "const LECTURE = "
"""What stands before the JSON in the script."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The data of the page on which the lecture moves."""

    run: Path = Path("runs/toy2d")
    """Folder of a finished run of experiments.toy2d."""
    trilemma: Path = Path("runs/trilemma/digits")
    """Folder of a finished run of experiments.trilemma, or a page of Markdown with its tables."""
    out: Path = Path("docs/_static/lecture/data.js")
    """Script to write."""


def export(config: Config) -> dict[str, Any]:
    """Writes the script, and returns its data.

    Raises Refusal if there is no such run, FlagError if the script's folder or the rows are missing, and
    CheckpointError.
    """
    require(config.out.parent.is_dir(), "out", config.out, f"there is no folder {config.out.parent}")
    data = {**fields(config.run), "trilemma": triangle(rows(config.trilemma))}
    workdir.write_text(
        config.out, CONSTANT + json.dumps(data, allow_nan=False, separators=(",", ":")) + ";\n"
    )
    console.say(f"{config.out}: {config.out.stat().st_size / 1000:.0f} kB")
    return data


# The fields ---------------------------------------------------------------------------------------


def fields(folder: Path) -> dict[str, Any]:
    """Returns the mixture, the levels, the sampler's numbers and both scores of the run in the folder."""
    try:
        run = launch.open_run(folder, toy2d.build, toy2d.Config)
    except Refusal as error:
        raise Refusal(f"--run {error}") from None
    metrics = workdir.read_json(folder / "metrics.json")
    try:
        errors = [float(row["relative_rms"]) for row in metrics["score_error"]]
        weights = {name: rounded(each) for name, each in metrics["mode_weights"].items()}
        current = errors and json.loads(metrics["stamp"])["step"] == run.step
    except (KeyError, TypeError, ValueError, AttributeError):
        current = False
    if not current:
        remedy = "run python -m experiments.toy2d to its end"
        raise Refusal(f"--run {folder}: has no metrics of its newest checkpoint; {remedy}")
    config, mixture = run.experiment.config, mixtures.two_modes(weight=run.experiment.config.weight)
    sigmas = toy2d.sigma_grid(config)[:-1]
    mean, root = start(samplers.moments(run.experiment.data.examples), config.sigma_max)
    extent = rounded(np.abs(mean).max() + REACH * np.linalg.norm(root, axis=1).max())
    grid = {"points": POINTS, "extent": extent, "widths": rounded(1 + 0.3 * sigmas)}
    exact = partial(mixtures.score, mixture)
    return {
        "mixture": {
            "weights": rounded(mixture.weights),
            "means": rounded(mixture.means),
            "variances": rounded(mixture.variances[:, 0]),
        },
        "sigmas": rounded(sigmas),
        "epsilon": config.step_size * config.sigma_min**2,
        "steps_per_level": config.langevin_steps,
        "start": {"mean": rounded(mean), "root": rounded(root)},
        "grid": grid,
        "learned": on_grid(run.score, sigmas, grid),
        "exact": on_grid(exact, sigmas, grid),
        "score_error": rounded(errors),
        "mode_weights": weights,
    }


def start(moments: samplers.Moments, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean[2] and root[2, 2]: mean + root z, z ~ N(0, I), are the starting points of sampling."""
    axes, variances = np.asarray(moments.axes), np.asarray(moments.variances)
    return np.asarray(moments.mean), axes @ np.diag(np.sqrt(variances + sigma**2)) @ axes.T


def axis(extent: float, width: float, points: int = POINTS) -> np.ndarray:
    """Returns the coordinates of a grid from -extent to extent, which are dense within `width` of 0.

        x = width sinh(k u),    u evenly spaced in [-1, 1],    width sinh(k) = extent

    Plain Langevin dynamics starts as far out at small levels as at large ones, so every level has the same
    extent. The score changes over distances that grow with the level, and so does the width.
    """
    return width * np.sinh(np.arcsinh(extent / width) * np.linspace(-1, 1, points))


def on_grid(score: ScoreFn, sigmas: Array, grid: dict[str, Any]) -> dict[str, Any]:
    """Returns the score on each level's grid as 16-bit integers, and the unit of each level's integers.

    `values` is the array [level, y, x, component], little-endian, in base64. The largest number of a level is
    32767 units.
    """
    score = jax.jit(score)
    units, values = [], []
    for sigma, width in zip(sigmas, grid["widths"], strict=True):
        line = axis(grid["extent"], width, grid["points"])
        x = jnp.asarray(np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2), jnp.float32)
        s = np.asarray(score(x, jnp.full(len(x), sigma)))
        units.append(float(np.abs(s).max()) / 32767)
        values.append(np.rint(s / units[-1]).astype("<i2"))
    return {"units": units, "values": base64.b64encode(np.stack(values).tobytes()).decode()}


def rounded(values: Any) -> Any:
    """Returns the numbers as lists, each with six significant digits."""
    array = np.asarray(values, np.float64)
    return np.vectorize(lambda value: float(f"{value:.6g}"))(array).tolist()


# The trilemma -------------------------------------------------------------------------------------


def rows(path: Path) -> list[report.Row]:
    """Returns the rows of a run's trilemma.json, or of the tables on a page. Raises FlagError."""
    if path.suffix == ".md":
        require(path.is_file(), "trilemma", path, "there is no such file")
        read = lambda: published(path.read_text())
    else:
        read = lambda: [
            row for row in workdir.read_json(path / "trilemma.json")["rows"] if row["metrics"].get("frechet")
        ]
    try:
        found = read()
        json.dumps(triangle(found), allow_nan=False)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
        found = []
    remedy = "has no rows with Fréchet distance, recall and seconds; run python -m experiments.trilemma"
    require(found, "trilemma", path, remedy)
    return found


COLUMNS = {"Fréchet": "frechet", "recall": "recall", "s / 1,000": "seconds_per_1000"}
"""Columns of the tables that the triangle needs besides the number of evaluations."""


def published(text: str) -> list[report.Row]:
    """Returns the rows of the tables on a page, of the families that are compared by default.

    Blocks without all of the columns are left out. A row has the means over seeds as its only value, and the
    half widths of their intervals as `reaches`.
    """
    found = []
    for block in re.findall(r"^```text\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        for (family, sampler), cells in cells_of(block).items():
            if {*COLUMNS, "evaluations"} <= set(cells) and family.rstrip("0123456789") in FAMILIES:
                pairs = {name: mean_and_reach(cells[column]) for column, name in COLUMNS.items()}
                values = {name: [mean] for name, (mean, _) in pairs.items()}
                found.append(
                    {
                        "family": family,
                        "sampler": sampler,
                        "evaluations": int(cells["evaluations"].replace(",", "")),
                        "seconds_per_1000": values.pop("seconds_per_1000"),
                        "metrics": values,
                        "reaches": {name: reach for name, (_, reach) in pairs.items()},
                    }
                )
    return found


def cells_of(block: str) -> dict[tuple[str, str], dict[str, str]]:
    """Returns the cells of the tables in a block, by family and sampler, then by the column's heading."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for table in block.split("\n\n"):
        lines = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]
        if lines and lines[0][:2] == ["family", "sampler"]:
            for family, sampler, *cells in lines[2:]:
                found.setdefault((family, sampler), {}).update(zip(lines[0][2:], cells, strict=False))
    return found


def mean_and_reach(cell: str) -> tuple[float, float]:
    """Returns both numbers of a cell such as "0.93 ± 0.45"; the second is nan if the cell has none."""
    mean, _, reach = cell.replace(",", "").partition(" ± ")
    return float(mean), float(reach or "nan")


def triangle(found: list[report.Row]) -> list[dict[str, Any]]:
    """Returns each row as the page shows it: its place, values from 0 to 1, and numbers with intervals."""
    scaled = report.scaled(found)
    places, shades = report.position(**scaled), report.colours(found)
    return [
        {
            "family": row["family"],
            "sampler": row["sampler"],
            "colour": shades[row["family"]],
            "evaluations": row["evaluations"],
            "at": rounded(place),
            "scaled": dict(zip(scaled, rounded(values), strict=True)),
            "frechet": pair(row, "frechet", row["metrics"]["frechet"]),
            "recall": pair(row, "recall", row["metrics"]["recall"]),
            "seconds": pair(row, "seconds_per_1000", row["seconds_per_1000"]),
        }
        for row, place, *values in zip(found, places, *scaled.values(), strict=True)
    ]


def pair(row: report.Row, name: str, values: list[float]) -> list[float | None]:
    """Returns the mean, and half the width of its interval, or None if there is no interval."""
    mean, reach = report.mean_and_reach(values)
    reach = row["reaches"].get(name, reach)
    return [*rounded([mean]), None if np.isnan(reach) else rounded([reach])[0]]


if __name__ == "__main__":
    launch.program(export, Config(), folder="out")

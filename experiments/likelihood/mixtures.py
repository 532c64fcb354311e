"""The estimates on mixtures whose density is known, in 2, 16 and 64 dimensions."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscore import keys, likelihood, noise, samplers
from jaxscore import mixtures as gaussians
from jaxscore.keys import Stream
from jaxscore.launch import console

DIMENSIONS, EXAMPLES, PROBES, DRAWS = (2, 16, 64), 200, 32, 1000

RANGE = {"sigma_min": 0.01, "sigma_max": 80.0}

BOUND_RANGE = {"sigma_min": 0.2, "sigma_max": 80.0}
"""A sigma_min as wide as the narrowest component, where what the decoder of the bound loses can be seen."""


def mixture(dimensions: int) -> gaussians.Mixture:
    """Returns four components with different weights and widths, at random places."""
    means = 1.5 * noise.normal(keys.stream(dimensions, Stream.DATA), (4, dimensions))
    return gaussians.isotropic([0.4, 0.3, 0.2, 0.1], means, [0.2, 0.3, 0.4, 0.5])


def rows(n: int = EXAMPLES) -> list[dict[str, Any]]:
    """Returns a row for each estimate and dimension: its errors on n examples, in nats."""
    found = []
    for dimensions in console.in_turn(DIMENSIONS, "mixtures"):
        known, key = mixture(dimensions), keys.stream(dimensions, Stream.EVALUATE)
        mean, covariance = gaussians.moments(known)
        variances, axes = np.linalg.eigh(np.asarray(covariance))
        moments = samplers.Moments(mean, jnp.asarray(variances), jnp.asarray(axes))
        score = partial(gaussians.score, known)
        x = gaussians.draw(noise.fold_in(key, 0), known, n, sigma=RANGE["sigma_min"])
        clean = gaussians.draw(noise.fold_in(key, 1), known, n)

        def exact(key, x, probes, score=score, moments=moments):
            return likelihood.log_density(score, key, x, probes=probes, moments=moments, **RANGE)

        def below(key, x, score=score, moments=moments):
            return likelihood.bound(score, key, x, draws=DRAWS, moments=moments, **BOUND_RANGE)

        truth = gaussians.log_density(known, x, RANGE["sigma_min"])
        for title, probes in {"exact trace": None, f"{PROBES} probes": PROBES}.items():
            if probes is None or probes < dimensions:
                estimate = jax.jit(partial(exact, probes=probes))(noise.fold_in(key, 2), x)
                found.append(_row(dimensions, title, estimate, truth))
                found[-1]["evaluations"] = float(estimate.evaluations.mean())
        estimate = jax.jit(below)(noise.fold_in(key, 3), clean)
        truth = gaussians.log_density(known, clean, 0.0)
        found.append(_row(dimensions, "variational bound", estimate, truth) | {"evaluations": 2 * DRAWS})
    return found


def _row(dimensions: int, title: str, estimate: Any, truth: jax.Array) -> dict[str, Any]:
    away, error = np.asarray(estimate.value - truth, float), np.asarray(estimate.standard_error, float)
    row = {"dimensions": dimensions, "estimate": title, "mean": away.mean(), "largest": np.abs(away).max()}
    row |= {"mean_error": away.std(ddof=1) / np.sqrt(len(away)), "stated": np.sqrt(np.mean(error**2))}
    probes = title.endswith("probes")
    return row | {"within_3": float(np.mean(np.abs(away) <= 3 * error)) if probes else None}


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the rows as text."""
    lines = [("D", "estimate", "mean error, nats", "largest", "stated error", "within 3", "evaluations")]
    for row in rows:
        within = "" if row["within_3"] is None else f"{row['within_3']:.1%}"
        mean = f"{row['mean']:.4f} ± {row['mean_error']:.4f}"
        numbers = (f"{row['largest']:.4f}", f"{row['stated']:.4f}", within, f"{row['evaluations']:.0f}")
        lines.append((str(row["dimensions"]), row["estimate"], mean, *numbers))
    return console.table(lines)

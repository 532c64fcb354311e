"""Rows of the theorems, without a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.theorems import rows
from experiments.theorems import run as theorems
from jaxscore import objectives


def gaussian():
    """The density and the models of the run."""
    return rows.densities()["Gaussian"], rows.families(2)["linear"]


def test_an_estimate_is_the_mean_and_its_error_that_of_the_mean():
    values = np.array([1.0, 2.0, 3.0, 6.0])
    error = np.sqrt(14 / 3 / 4)
    assert rows.estimate(values) == {"estimate": 3.0, "standard_error": pytest.approx(error)}
    row = rows.null(values, -10.0)
    assert row["errors_off"] == pytest.approx(3 / error)
    assert row["error_share"] == pytest.approx(error / 10)


def test_a_theorem_that_does_not_hold_is_found_out(monkeypatch):
    def half_the_trace(score, key, x, sigma, implicit=objectives.implicit):
        square = jnp.sum(score(x, sigma) ** 2, axis=1) / 2
        return (implicit(score, key, x, sigma) + square) / 2

    monkeypatch.setattr(objectives, "implicit", half_the_trace)
    config = theorems.Config(blocks=20, draws=200, thetas=3)
    broken = rows.theorems(*rows.along(jax.random.key(0), *gaussian(), config), config, "a pair")
    furthest = dict.fromkeys(rows.THEOREMS, 0.0)
    for row in broken:
        if "errors_off" in row:
            furthest[row["objective"]] = max(furthest[row["objective"]], abs(row["errors_off"]))
    assert furthest["implicit"] > 10
    assert furthest["denoising"] < 5  # untouched; t with 19 degrees of freedom, six rows: once in 2,000
